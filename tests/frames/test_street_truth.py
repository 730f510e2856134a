"""What the simulator knows of a frame, drawn again, is of that very frame."""

from dataclasses import replace

import numpy as np
import pytest

from occlab.errors import OcclabError
from occlab.frames import Frame, StreetConfig, read_frame, simulate_frame, write_frame
from occlab.frames.meshes import KINDS
from occlab.frames.sensors import LidarConfig, own_car
from occlab.frames.street_truth import NOTHING, SLACK, object_box, street_of, write_folder

pytest.importorskip("open3d")
CONFIG = StreetConfig(lidar=LidarConfig(sweeps=3, azimuths=361), stride=24, points=2000)


@pytest.fixture(scope="module")
def frame():
    return simulate_frame(7, CONFIG)


@pytest.fixture(scope="module")
def street(frame):
    return street_of(frame)


def test_the_sweeps_one_after_the_other_are_the_frames_points(frame, street):
    assert [sweep.time for sweep in street.sweeps] == pytest.approx([0, -0.05, -0.1])
    np.testing.assert_array_equal(np.concatenate([sweep.points for sweep in street.sweeps]), frame.lidar)
    np.testing.assert_array_equal(street.sweeps[0].own, street.sweeps[0].points)


def test_each_sweep_in_its_own_frame_has_the_beams_elevations(street):
    config = CONFIG.lidar
    elevations = np.linspace(config.lowest, config.highest, config.beams)
    for sweep in street.sweeps:
        x, y, z, _ = sweep.own.astype(np.float64).T
        np.testing.assert_allclose(np.degrees(np.arctan2(z, np.hypot(x, y))), elevations[sweep.ring], atol=1e-3)
        there = np.column_stack([sweep.own[:, :3], np.ones(len(x))]) @ sweep.pose.T
        np.testing.assert_allclose(there[:, :3], sweep.points[:, :3], atol=1e-4)
    assert set(street.sweeps[0].ring) == set(range(32))


def test_points_know_what_they_hit(street):
    sweep = street.sweeps[0]
    near_own_car = np.abs(sweep.points[:, :2] + (0.4, 0)).max(axis=1) < 2.2
    vertices = own_car().vertices
    on_own_car = near_own_car & (sweep.points[:, 2] > vertices[:, 2].min()) & (np.abs(sweep.points[:, 1]) < 0.9)
    assert (sweep.kind[on_own_car] == NOTHING).all()
    assert (sweep.kind[~near_own_car] == NOTHING).mean() < 0.005
    road = sweep.kind == KINDS.index("road")
    under = street.scene.road.height(sweep.points[road, 0], street.scene.road.own_t)
    close = np.abs(sweep.points[road, 1]) < 1
    assert np.abs(sweep.points[road, 2] - under)[close].max() < 0.35
    assert set(np.unique(sweep.kind[sweep.moving])) <= {KINDS.index("car"), KINDS.index("person")}


def test_what_stands_is_in_the_streets_mesh_and_nothing_is_left_out(street):
    static = street.scene.static
    for kind in ("car", "person"):
        number = KINDS.index(kind)
        assert sum((mesh.kind == number).sum() for mesh in street.standing) == (static.kind == number).sum() > 0
    held = {vertex.tobytes() for vertex in static.vertices}
    assert all(vertex.tobytes() in held for mesh in street.standing for vertex in mesh.vertices)


def test_boxes_hold_their_object_tightly_and_nearly_all_its_points(street):
    sweep = street.sweeps[0]
    held = np.zeros(len(sweep.points), bool)
    for box, mesh, speed in street.objects(sweep.points):
        assert box.contains(mesh.vertices).all()
        assert not replace(box, size=tuple(np.subtract(box.size, 2.1 * SLACK))).contains(mesh.vertices).all()
        inside = box.contains(sweep.points)
        assert box.n_points == inside.sum()
        held |= inside
        low, high = {"vehicle.car": (3, 7), "vehicle.bus.rigid": (7, 12.5), "human.pedestrian.adult": (0.2, 1)}[box.category]
        assert low < box.size[0] < high
        assert speed >= 0
    things = np.isin(sweep.kind, [KINDS.index("car"), KINDS.index("person")])
    assert held[things].mean() > 0.99


def test_a_mover_heads_where_it_goes(street):
    for mover in street.scene.movers:
        ahead = np.asarray(object_box(mover.mesh).rotation)[:, 0]
        assert ahead[:2] @ mover.velocity[:2] == pytest.approx(np.linalg.norm(mover.velocity[:2]), rel=1e-4)


def test_a_frame_from_a_file_shows_the_same_street(frame, street, tmp_path):
    write_frame(tmp_path / "frame.npz", frame)
    again = street_of(read_frame(tmp_path / "frame.npz"))
    np.testing.assert_array_equal(again.sweeps[-1].points, street.sweeps[-1].points)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ({}, "frame x: only simulated streets can be exported.* got none"),
        ({"data_set": "SemanticKITTI", "seed": 1}, "frame x: only simulated streets.* got data_set, seed"),
        ({"seed": "7"}, "frame x: only simulated streets"),
        ({"seed": 8}, r"frame x: expected the \d+ LiDAR points that this release.* for seed 8, got \d+; make the frame again"),
    ],
)
def test_a_frame_of_another_origin_is_refused(frame, source, sentence):
    if "seed" in source and "data_set" not in source:
        source = frame.source | source
    with pytest.raises(OcclabError, match=sentence):
        street_of(Frame(frame.pseudo, frame.lidar, "x", source))


def fill(text):
    def write(folder):
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_text(text)

    return write


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    def half(folder):
        fill("a")(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(OcclabError, match=r"out: cannot be written \(No space left on device\)"):
        write_folder(tmp_path / "out", ["sub"], half)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").mkdir()
    write_folder(tmp_path / "out", ["sub"], fill("a"))
    assert (tmp_path / "out" / "sub" / "file").read_text() == "a"


def test_a_folder_of_other_content_is_left_alone(tmp_path):
    root = tmp_path / "out"
    write_folder(root, ["sub"], fill("a"))
    write_folder(root, ["sub"], fill("a"))
    refusal = "out: expected a new or empty folder to export to, or this very export, got other content"
    with pytest.raises(OcclabError, match=refusal):
        write_folder(root, ["sub"], fill("b"))
    with pytest.raises(OcclabError, match=refusal):
        write_folder(root, ["other"], lambda folder: pytest.fail("written before it was refused"))
    (root / "sub" / "more").write_text("")
    with pytest.raises(OcclabError, match=refusal):
        write_folder(root, ["sub"], fill("a"))
    assert (root / "sub" / "file").read_text() == "a"
    (tmp_path / "file").write_text("")
    with pytest.raises(OcclabError, match=refusal.replace("out", "file", 1)):
        write_folder(tmp_path / "file", ["sub"], fill("a"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "out"]
