import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from occlab.errors import OcclabError
from occlab.grid import VoxelGrid
from occlab.viz import theme

GRID = VoxelGrid((-2.0, -3.0, -1.0, 2.0, 3.0, 1.0), (1.0, 1.0, 1.0))  # (Z, Y, X) = (2, 6, 4)

# What eyes without L, M or S cones see of linear RGB: Machado, Oliveira and Fernandes, IEEE TVCG 15 (2009), severity 1.
EYES = {
    "all cones": np.eye(3),
    "no L": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no M": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no S": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(colour: str, eye: str, shade: float) -> np.ndarray:
    """CIE L*a*b* of a colour that is shaded and seen by an eye."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255 * shade
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(EYES[eye]) @ linear, 0, 1)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    x, y, z = np.array(to_xyz) @ seen / (0.95047, 1, 1.08883)
    fx, fy, fz = (np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z))
    return np.array([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)])


@pytest.mark.parametrize("eye", EYES)
def test_outcomes_can_be_told_apart_by_any_eye_in_any_light(eye):
    colours = [colour for _, colour in theme.OUTCOMES.values()]
    for one, other in itertools.combinations(colours, 2):
        for a, b in itertools.product((0.6, 0.8, 1.0), repeat=2):  # sides of a voxel are darker than its top
            assert np.linalg.norm(lab(one, eye, a) - lab(other, eye, b)) > 20


def test_importing_the_package_does_not_import_plotly():
    code = "import sys, occlab, occlab.viz; sys.exit('plotly' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_missing_plotly_is_one_sentence_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(OcclabError, match=r"plotly could not be imported.*pip install"):
        theme.figure([], title="")


@pytest.mark.parametrize(
    "volume",
    [
        np.ones(GRID.shape, bool),
        np.ones(GRID.shape, np.int64),
        np.ones((1, *GRID.shape), np.float64),
        torch.ones(GRID.shape, dtype=torch.bfloat16),
        torch.full(GRID.shape, 0.6, requires_grad=True),
        torch.ones((1, *GRID.shape), dtype=torch.bool),
    ],
)
def test_occupied_takes_arrays_and_tensors(volume):
    solid = theme.occupied(volume, GRID)
    assert solid.dtype == bool
    assert solid.shape == GRID.shape
    assert solid.all()


def test_half_is_not_occupied():
    """The dead head's p = 0.5 exactly, as in occlab.metrics."""
    assert not theme.occupied(np.full(GRID.shape, 0.5), GRID).any()


@pytest.mark.parametrize(
    ("volume", "words"),
    [
        (np.zeros((6, 4, 2), bool), r"\(2, 6, 4\).*\(6, 4, 2\)"),
        (np.zeros((2, *GRID.shape), bool), r"\(2, 2, 6, 4\)"),
        (np.full(GRID.shape, -3.0), "sigmoid"),
        (np.full(GRID.shape, np.nan), "nan"),
        (np.full(GRID.shape, "a"), "<U1"),
    ],
)
def test_wrong_volumes_are_named(volume, words):
    with pytest.raises(OcclabError, match=words):
        theme.occupied(volume, GRID)


def test_outcomes_and_score_by_hand():
    predicted = np.zeros(GRID.shape, np.float32)
    target = np.zeros(GRID.shape, np.float32)
    mask = np.ones(GRID.shape, bool)
    predicted[0, 0] = 0.9, 0.9, 0.2, 0.9
    target[0, 0] = 0.3, 0.0, 0.3, 1.0  # soft: anything above 0 is occupied
    mask[0, 0, 3] = False
    outcome = theme.outcomes(predicted, target, GRID, mask)
    assert outcome[0, 0].tolist() == [1, 3, 2, 0]
    assert theme.score(outcome) == (1, 1, 1, pytest.approx(1 / 3))
    assert theme.score(np.zeros_like(outcome)) == (0, 0, 0, 0.0)


@pytest.mark.parametrize(("low", "high"), [(-54, 54), (-5, 3), (0, 51.2), (-0.03, 0.04), (0, 1)])
def test_nice_ticks(low, high):
    ticks = theme.nice_ticks(low, high, 6)
    assert 2 <= len(ticks) <= 7
    assert low <= ticks[0] < ticks[-1] <= high
    assert np.allclose(np.diff(ticks), ticks[1] - ticks[0])


def test_centimetres_stay_narrow_until_they_do_not_fit():
    assert theme.to_centimetres(np.array([-54.0, 0.25, 327.0])).tolist() == [-5400, 25, 32700]
    assert theme.to_centimetres(np.array([327.0])).dtype == np.int16
    assert theme.to_centimetres(np.array([328.0])).dtype == np.float32
    assert theme.to_centimetres(np.zeros((0, 3))).shape == (0, 3)


def test_scene_has_equal_scales_and_reads_in_metres():
    scene = theme.scene(VoxelGrid().point_cloud_range)
    ratio = scene["aspectratio"]
    assert ratio["x"] / ratio["z"] == pytest.approx(108 / 8)
    assert scene["xaxis"]["range"][0] < -5400
    assert dict(zip(scene["xaxis"]["tickvals"], scene["xaxis"]["ticktext"], strict=True))[2000] == "20"
    assert scene["camera"]["eye"]["x"] < 0 < scene["camera"]["eye"]["z"]  # behind and above
    json.dumps(scene)


def test_rings_stay_in_the_box():
    [trace] = theme.rings((-30.0, -15.0, -5.0, 50.0, 54.0, 3.0))
    x, y = trace.x[~np.isnan(trace.x)], trace.y[~np.isnan(trace.y)]
    assert set(np.round(np.hypot(x, y) / 100, 2).tolist()) == {20.0, 40.0}
    assert x.min() >= -3000
    assert y.min() >= -1500
    assert theme.rings((-3.0, -3.0, -5.0, 3.0, 3.0, 3.0)) == []
