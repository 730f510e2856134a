from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from occlab.errors import OcclabError
from occlab.frames.point_files import read_bin


def sweep(columns: int, n: int = 1000, seed: int = 0) -> np.ndarray:
    """Points as the two data sets write them: reflectance in [0, 1]; intensity 0 to 255 and a ring number."""
    rng = np.random.default_rng(seed)
    xyz = rng.normal(0, [20, 20, 1.5], (n, 3))
    if columns == 4:
        return np.column_stack([xyz, rng.random(n)]).astype(np.float32)
    return np.column_stack([xyz, rng.integers(0, 256, n), rng.integers(0, 32, n)]).astype(np.float32)


def written(folder: Path, content: bytes) -> Path:
    path = folder / "000007.bin"
    path.write_bytes(content)
    return path


@given(columns=st.sampled_from([4, 5]), n=st.integers(1, 300), seed=st.integers(0, 1000))
def test_reads_what_was_written(tmp_path_factory, columns, n, seed):
    points = sweep(columns, n, seed)
    back = read_bin(written(tmp_path_factory.mktemp("sweep"), points.tobytes()), columns)
    np.testing.assert_array_equal(back, points)
    assert back.dtype == np.float32
    assert back.flags.writeable


def test_points_at_the_origin_and_a_few_far_ones_are_allowed(tmp_path):
    points = sweep(4)
    points[:300, :3] = 0
    points[-5:, 0] = 4000
    np.testing.assert_array_equal(read_bin(written(tmp_path, points.tobytes()), 4), points)


POINTS = {columns: sweep(columns) for columns in (4, 5)}
WITH_NAN, WITH_INFINITY, ALL_NAN, ABSURD = (POINTS[4].copy() for _ in range(4))
WITH_NAN[[3, 9], 1] = np.nan
WITH_INFINITY[17, 3] = -np.inf
ALL_NAN[:] = np.nan
ABSURD[:, :3] *= 1e6


@pytest.mark.parametrize(
    ("content", "columns", "says"),
    [
        (b"", 4, "empty"),
        (POINTS[4].tobytes()[:-3], 4, "15997 bytes.*not a whole number of 16-byte points: it is cut off"),
        (POINTS[5].tobytes()[: -20 * 2 - 4], 5, "not a whole number of 20-byte points"),
        (WITH_NAN.tobytes(), 4, "2 of 1000 points hold NaN or infinity"),
        (WITH_INFINITY.tobytes(), 4, "1 of 1000 points hold NaN or infinity"),
        (ALL_NAN.tobytes(), 4, "1000 of 1000 points hold NaN"),
        (POINTS[5].tobytes(), 4, "fits 5 columns .*nuScenes"),
        (POINTS[5][:999].tobytes(), 4, "fits 5 columns .*nuScenes"),  # 999 x 20 bytes: not a multiple of 16
        (POINTS[4].tobytes(), 5, "fits 4 columns .*KITTI"),
        (POINTS[4].astype(">f4").tobytes(), 4, "big-endian"),
        (POINTS[5].astype(">f4").tobytes(), 5, "big-endian"),
        (POINTS[4].astype(np.float64).tobytes(), 4, "float64"),
        (ABSURD.tobytes(), 4, "no point cloud.*300 m"),
        (np.random.default_rng(0).bytes(16_000), 4, "NaN|no point cloud"),
    ],
)
def test_a_bad_file_is_one_sentence_that_names_it(tmp_path, content, columns, says):
    path = written(tmp_path, content)
    with pytest.raises(OcclabError, match=says) as caught:
        read_bin(path, columns)
    message = str(caught.value)
    assert message.startswith(f"{path}: expected little-endian float32 with {columns} columns")
    assert "\n" not in message
    assert ". " not in message


def test_a_missing_file_and_an_impossible_layout(tmp_path):
    with pytest.raises(OcclabError, match=r"no\.bin: expected a LiDAR sweep, but it cannot be read \(No such file"):
        read_bin(tmp_path / "no.bin", 4)
    with pytest.raises(OcclabError, match="cannot be read"):
        read_bin(tmp_path, 4)
    with pytest.raises(OcclabError, match=r"4 \(KITTI\) or 5 \(nuScenes\) columns, not 3"):
        read_bin(written(tmp_path, POINTS[4].tobytes()), 3)


def test_real_sweeps_read_as_themselves_and_as_nothing_else(real_data):
    kitti = sorted(real_data.glob("semantickitti/sequences/*/velodyne/*.bin"))
    nuscenes = sorted(real_data.glob("nuscenes_one_frame/samples/LIDAR_TOP/*.bin"))
    assert kitti
    assert nuscenes
    for paths, columns in ((kitti, 4), (nuscenes, 5)):
        for path in paths:
            np.testing.assert_array_equal(read_bin(path, columns), np.fromfile(path, np.float32).reshape(-1, columns))
            with pytest.raises(OcclabError, match=f"fits {columns} columns"):
                read_bin(path, 9 - columns)
            with pytest.raises(OcclabError, match="big-endian"):
                read_bin(path, columns, np.fromfile(path, ">f4").astype("<f4").tobytes())
