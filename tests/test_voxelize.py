"""The voxelizer against a float64 group-by in NumPy, and the invariants it promises."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from occlab import OcclabError, VoxelGrid, hard_occupancy, occupancy, soft_occupancy, voxelize

GRID = VoxelGrid()
SMALL = VoxelGrid((-1.2, -1.2, -0.5, 1.2, 1.2, 0.5))


def street_like(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 4, generator=generator) * torch.tensor([25.0, 25.0, 1.0, 1.0])


def reference(points, grid):
    """{cell: (count, mean, variance)} in float64, one point at a time's worth of care."""
    points = points.numpy()[:, :3]
    low, size = np.array(grid.point_cloud_range[:3], np.float32), np.array(grid.voxel_size, np.float32)
    with np.errstate(invalid="ignore"):
        cell = np.floor((points - low) / size)
        inside = ((cell >= 0) & (cell < grid.shape[::-1])).all(1)
    flat = np.ravel_multi_index(cell[inside][:, ::-1].astype(int).T, grid.shape)
    wide = points[inside].astype(np.float64)
    return {k: (int((flat == k).sum()), wide[flat == k].mean(0), wide[flat == k].var(0)) for k in np.unique(flat)}


@pytest.mark.parametrize("grid", [GRID, SMALL])
def test_statistics_agree_with_a_group_by(grid):
    points = street_like(4000) if grid is GRID else street_like(4000) / 25
    stats, expected = voxelize(points, grid), reference(points, grid)
    assert stats.index.tolist() == sorted(expected)
    assert stats.count.tolist() == [expected[k][0] for k in sorted(expected)]
    # Offsets are rounded to 1/65536 of a voxel (5 um), after float32 arithmetic at 54 m (up to 4 um twice).
    np.testing.assert_allclose(stats.mean, np.stack([expected[k][1] for k in sorted(expected)]), atol=2e-5)
    np.testing.assert_allclose(stats.variance, np.stack([expected[k][2] for k in sorted(expected)]), atol=4e-6)


def test_variance_far_from_the_origin_keeps_its_digits():
    """The single-pass E[x^2] - E[x]^2 on raw float32 coordinates is off by 3e-4 here."""
    offsets = torch.linspace(0.0, 0.01, 5000)
    points = torch.stack([53.7 + offsets, -53.7 - offsets, 2.8 + offsets], dim=1)
    stats = voxelize(points, GRID)
    assert stats.count.tolist() == [5000]
    np.testing.assert_allclose(stats.variance[0], points.double().var(0, correction=0), atol=3e-8)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_order_of_the_points_does_not_matter_to_the_bit(seed):
    points = street_like(3000, seed % 7) / 10
    shuffled = points[torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))]
    a, b = voxelize(points, GRID), voxelize(shuffled, GRID)
    for field in ("index", "count", "mean", "variance"):
        assert torch.equal(getattr(a, field), getattr(b, field)), field


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=40).map(lambda s: (s[0], 3)),
        elements=st.floats(-2, 2, width=32),
    )
)
def test_invariants(points):
    points = torch.from_numpy(points)
    stats = voxelize(points, SMALL)
    inside = SMALL.index_of(points)[1]
    assert int(stats.count.sum()) == int(inside.sum())
    assert (stats.index.diff() > 0).all()
    assert (stats.variance >= 0).all()
    size = torch.tensor(SMALL.voxel_size)
    assert ((stats.mean - SMALL.centre_of(stats.coordinates[:, 1:])).abs() <= size / 2 + 1e-5).all()
    assert (stats.variance <= size**2 / 4 + 1e-6).all()  # Popoviciu's inequality
    assert torch.equal(hard_occupancy(stats) > 0, occupancy(points, SMALL))


def test_a_batch_is_its_frames_side_by_side():
    clouds = [street_like(1000, 1), street_like(1500, 2), street_like(800, 3)]
    together = voxelize(clouds, GRID)
    assert together.shape == (3, 32, 180, 180)
    for i, cloud in enumerate(clouds):
        alone = voxelize(cloud, GRID)
        rows = together.coordinates[:, 0] == i
        assert torch.equal(together.coordinates[rows][:, 1:], alone.coordinates[:, 1:])
        assert torch.equal(together.mean[rows], alone.mean)
        assert torch.equal(together.variance[rows], alone.variance)
    assert torch.equal(occupancy(clouds, GRID), hard_occupancy(together) > 0)


def test_points_with_nan_or_infinity_are_left_out():
    points = street_like(500)
    broken = points.clone()
    broken[::5, 0], broken[1::5, 2] = float("nan"), float("inf")
    keep = torch.isfinite(broken).all(1)
    a, b = voxelize(broken, GRID), voxelize(points[keep], GRID)
    assert torch.equal(a.index, b.index)
    assert torch.equal(a.mean, b.mean)
    assert torch.isfinite(a.variance).all()


def test_no_points_inside_is_an_empty_result():
    for points in (torch.empty(0, 4), torch.full((3, 3), 1e6)):
        stats = voxelize(points, GRID)
        assert len(stats.index) == 0
        assert hard_occupancy(stats).sum() == 0
        assert soft_occupancy(stats).shape == (1, 32, 180, 180)


@pytest.mark.parametrize(
    "points", [torch.zeros(5, 2), torch.zeros(5), torch.zeros(5, 3, dtype=torch.int64), np.zeros((5, 3)), []]
)
def test_what_is_not_a_cloud_is_refused(points):
    with pytest.raises(OcclabError, match=r"voxelize expects"):
        voxelize(points, GRID)


def test_soft_occupancy_is_the_formula():
    points = torch.tensor([[0.1, 0.1, 0.1], [0.2, 0.3, 0.15], [0.5, 0.2, 0.05], [10.0, 10.0, 0.0]])
    p = soft_occupancy(voxelize(points, GRID))
    three = points[:3].double()
    expected = 1 - np.exp(-0.3 * 3 - 5 * three.var(0, correction=0).mean().item())
    assert sorted(p[p > 0].tolist()) == pytest.approx([1 - np.exp(-0.3), expected], rel=1e-5)


@given(st.integers(1, 50))
def test_more_points_are_more_certain(n):
    points = street_like(1).expand(n, 4)
    more = street_like(1).expand(n + 1, 4)
    assert soft_occupancy(voxelize(more, GRID)).max() >= soft_occupancy(voxelize(points, GRID)).max()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_agrees_to_the_bit():
    points = street_like(300_000)
    cpu, cuda = voxelize(points, GRID), voxelize(points.cuda(), GRID)
    for field in ("index", "count", "mean", "variance"):
        assert torch.equal(getattr(cpu, field), getattr(cuda, field).cpu()), field
