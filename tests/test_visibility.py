"""Free, occupied, unknown: against a brute-force ray in float64, closed forms and Open3D's ray caster."""

import doctest
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from occlab import visibility
from occlab.errors import OcclabError
from occlab.frames import Camera
from occlab.grid import VoxelGrid
from occlab.visibility import (
    FREE,
    OCCUPIED,
    UNKNOWN,
    camera_visible,
    first_hit,
    observed_mask,
    ray_states,
    visible_from,
)
from occlab.voxelize import occupancy

SMALL = VoxelGrid((-3.0, -2.4, -1.0, 3.0, 2.4, 1.0), (0.6, 0.4, 0.25))  # 10 x 12 x 8 cells
DYADIC = VoxelGrid((-8.0, -8.0, -4.0, 8.0, 8.0, 4.0), (0.5, 0.5, 0.25))  # metres to cells without rounding
seeds = st.integers(0, 100_000)
few = settings(max_examples=30, deadline=None)


def cloud(seed, n, reach=1.0):
    box = np.array(SMALL.point_cloud_range).reshape(2, 3) * reach
    return torch.from_numpy(np.random.default_rng(seed).uniform(*box, (n, 3)).astype(np.float32))


def chords(grid, begin, end):
    """Shares of the line from begin to end at which it enters and leaves each voxel, (Z, Y, X); by slabs, of all voxels."""
    enters, leaves = np.full(grid.shape, -np.inf), np.full(grid.shape, np.inf)
    for axis in range(3):
        planes = grid.point_cloud_range[axis] + np.arange(grid.shape[2 - axis] + 1) * grid.voxel_size[axis]
        with np.errstate(divide="ignore", invalid="ignore"):
            at = (planes - begin[axis]) / (end[axis] - begin[axis])
        view = [1, 1, 1]
        view[2 - axis] = -1
        enters = np.maximum(enters, np.minimum(at[:-1], at[1:]).reshape(view))
        leaves = np.minimum(leaves, np.maximum(at[:-1], at[1:]).reshape(view))
    return enters, leaves


@pytest.mark.parametrize(("reach_of_origin", "reach"), [(0.9, 0.9), (0.9, 3.0), (3.0, 0.9), (2.0, 2.0)])
def test_a_ray_visits_what_a_finely_sampled_one_does_and_else_only_grazes(reach_of_origin, reach):
    """From inside and outside the grid, to inside and outside; some of the last kind miss it."""
    begins, ends = cloud(1, 60, reach_of_origin), cloud(2, 60, reach)
    low, size = np.array(SMALL.point_cloud_range[:3]), np.array(SMALL.voxel_size)
    t = np.linspace(0, 1, 10_001)[:, None]
    visited, grazed = 0, 0
    for begin, end in zip(begins, ends, strict=True):
        ours = observed_mask(end[None], SMALL, begin).numpy()
        a, b = begin.numpy().astype(float), end.numpy().astype(float)
        cell = np.floor((a + t * (b - a) - low) / size).astype(int)
        cell = cell[((cell >= 0) & (cell < SMALL.shape[::-1])).all(1)]
        sampled = np.zeros(SMALL.shape, bool)
        sampled[tuple(cell[:, ::-1].T)] = True
        assert not (sampled & ~ours).any()
        enters, leaves = chords(SMALL, a, b)
        inside = np.minimum(leaves, 1) - np.maximum(enters, 0)
        assert (inside[ours] > -1e-9).all()
        assert (inside[ours & ~sampled] < 1.01 / 10_000).all()
        visited, grazed = visited + sampled.sum(), grazed + (ours & ~sampled).sum()
    assert visited > 150
    assert grazed < 0.01 * visited


def test_a_ray_along_an_axis_visits_its_row():
    states = ray_states(torch.tensor([[2.3, 0.3, 0.1]]), DYADIC, origin=(-3.9, 0.3, 0.1))
    z, y = 16, 16
    assert (states[z, y] != UNKNOWN).nonzero().flatten().tolist() == list(range(8, 21))
    assert states[z, y, 20] == OCCUPIED
    assert int((states != UNKNOWN).sum()) == 13
    upwards = ray_states(torch.tensor([[0.1, 0.1, 100.0]]), DYADIC, origin=(0.1, 0.1, 0.1))
    assert (upwards == FREE).nonzero().tolist() == [[z, 16, 16] for z in range(16, 32)]
    assert not (upwards == OCCUPIED).any()


@pytest.mark.parametrize("sign", [(1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, -1)])
def test_a_diagonal_ray_passes_through_corners_and_touches_nothing_beside_them(sign):
    """From the corner shared by eight voxels, the sensor's place in the course's grid, through six corners more."""
    end = torch.tensor(sign) * torch.tensor([3.25, 3.25, 1.625])
    states = ray_states(end[None], DYADIC)
    home = [16 if s > 0 else 15 for s in sign]
    path = [[h + s * i for h, s in zip(home, sign, strict=True)][::-1] for i in range(7)]
    assert sorted((states != UNKNOWN).nonzero().tolist()) == sorted(path)
    assert states[tuple(path[-1])] == OCCUPIED
    steep = ray_states(torch.tensor(sign)[None] * torch.tensor([[3.75, 1.25, 0.1]]), DYADIC)  # 3 cells of x to one of y
    assert int((steep != UNKNOWN).sum()) == 8


def test_a_ray_along_a_face_is_in_the_voxel_of_the_higher_number():
    states = ray_states(torch.tensor([[2.1, 0.0, 0.0]]), DYADIC)
    assert (states != UNKNOWN).nonzero().tolist() == [[16, 16, x] for x in range(16, 21)]
    back = ray_states(torch.tensor([[-2.1, 0.0, 0.0]]), DYADIC)
    assert (back != UNKNOWN).nonzero().tolist() == [[16, 16, x] for x in range(11, 16)]


def test_a_return_on_a_face_frees_nothing_behind_it():
    for x in np.float32(0.6) * np.arange(1, 80, dtype=np.float32):
        states = ray_states(torch.tensor([[x, 0.1, 0.1]]), VoxelGrid())
        last = (states != UNKNOWN).nonzero()[:, 2].max()
        assert states[:, :, last].max() == OCCUPIED


def test_rays_that_say_nothing_leave_the_grid_unknown():
    nan, inf = math.nan, math.inf
    points = torch.tensor([[nan, 0, 0], [inf, 0, 0], [0, -inf, 0], [9, 9, 9]])
    assert not ray_states(points, SMALL, origin=(9.0, 0.0, 0.0)).any()
    assert not ray_states(torch.zeros(0, 4), SMALL).any()
    at_the_sensor = ray_states(torch.zeros(1, 3), SMALL)
    assert (at_the_sensor != UNKNOWN).nonzero().tolist() == [[4, 6, 5]]


@few
@given(seeds)
def test_occupied_is_the_occupancy_and_so_a_free_voxel_never_holds_a_return(seed):
    points = cloud(seed, 60, 1.5)
    states = ray_states(points, SMALL)
    assert torch.equal(states == OCCUPIED, occupancy(points, SMALL)[0])


@few
@given(seeds)
def test_the_order_of_points_and_the_size_of_chunks_change_nothing(seed):
    points, origins = cloud(seed, 60, 1.5), cloud(seed + 1, 60, 1.5)
    states = ray_states(points, SMALL, origin=origins)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(ray_states(points[order], SMALL, origin=origins[order]), states)
    before, visibility._CHUNK = visibility._CHUNK, 100
    try:
        assert torch.equal(ray_states(points, SMALL, origin=origins), states)
    finally:
        visibility._CHUNK = before


@few
@given(seeds, st.tuples(st.integers(-5, 5), st.integers(-5, 5), st.integers(-5, 5)))
def test_whole_voxels_of_translation_shift_the_states(seed, shift):
    rng = np.random.default_rng(seed)
    points = torch.from_numpy(rng.integers(-80, 80, (50, 3)) / 32).float()  # many on faces, edges and corners
    origin = torch.from_numpy(rng.integers(-80, 80, 3) / 32).float()
    moved = torch.tensor(shift) * torch.tensor([0.5, 0.5, 0.25])
    states = ray_states(points, DYADIC, origin=origin)
    shifted = ray_states(points + moved, DYADIC, origin=origin + moved)
    assert torch.equal(shifted, states.roll(shift[::-1], (0, 1, 2)))


@few
@given(seeds)
def test_a_mirrored_cloud_gives_the_mirrored_states(seed):
    points, origin = cloud(seed, 60, 1.5), cloud(seed + 1, 1, 1.5)[0]
    states = ray_states(points, SMALL, origin=origin)
    for axis in range(3):
        mirror = torch.ones(3)
        mirror[axis] = -1
        assert torch.equal(ray_states(points * mirror, SMALL, origin=origin * mirror), states.flip(2 - axis))


def test_several_sweeps_are_seen_each_from_its_own_place():
    first, second = cloud(1, 40), cloud(2, 50)
    places = torch.tensor([[-1.0, 0.2, 0.3], [1.0, 0.1, 0.3]])
    origins = torch.cat([places[0].expand(40, 3), places[1].expand(50, 3)])
    together = ray_states(torch.cat([first, second]), SMALL, origin=origins)
    parts = [ray_states(p, SMALL, origin=o) for p, o in zip((first, second), places, strict=True)]
    assert torch.equal(together, torch.maximum(*parts))
    assert not torch.equal(together, ray_states(torch.cat([first, second]), SMALL, origin=places[0]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_sees_what_the_cpu_sees():
    points, origins, volume = cloud(3, 5000, 1.5), cloud(4, 5000, 1.5), occupancy(cloud(5, 50), SMALL)[0]
    assert torch.equal(ray_states(points.cuda(), SMALL, origin=origins.cuda()).cpu(), ray_states(points, SMALL, origin=origins))
    far = first_hit(volume.cuda(), SMALL, origins.cuda(), (points - origins).cuda())
    torch.testing.assert_close(far.cpu(), first_hit(volume, SMALL, origins, points - origins))
    assert torch.equal(visible_from(volume.cuda(), SMALL, origins[0]).cpu(), visible_from(volume, SMALL, origins[0]))


def test_first_hits_are_open3ds_on_boxes():
    o3d = pytest.importorskip("open3d", reason="Open3D is not installed")
    volume = occupancy(cloud(7, 120), SMALL)[0]
    scene = o3d.t.geometry.RaycastingScene()
    half = torch.tensor(SMALL.voxel_size) / 2
    for centre in SMALL.centre_of(volume.nonzero()):
        box = o3d.t.geometry.TriangleMesh.create_box(*SMALL.voxel_size)
        scene.add_triangles(box.translate(o3d.core.Tensor((centre - half).numpy())))
    origins, aims = cloud(8, 4000, 1.5), cloud(9, 4000)
    free = ~volume[tuple(SMALL.index_of(origins)[0].T)] | ~SMALL.index_of(origins)[1]
    origins, directions = origins[free], (aims - origins)[free]
    unit = directions / directions.norm(dim=1, keepdim=True)
    expected = scene.cast_rays(o3d.core.Tensor(torch.cat([origins, unit], 1).numpy()))["t_hit"].numpy()
    ours = first_hit(volume, SMALL, origins, directions).numpy()
    hit = np.isfinite(expected)
    assert 0.2 < hit.mean() < 0.9
    agree = hit == np.isfinite(ours)
    assert agree.mean() > 0.999  # Open3D casts in float32: it may miss an edge, or hit one
    close = np.isclose(ours[hit & agree], expected[hit & agree], atol=1e-4)
    assert close.mean() > 0.999


@pytest.mark.parametrize("reach", [0.95, 2.5])
def test_both_sides_of_the_first_hit_are_those_of_slabs(reach):
    volume = occupancy(cloud(10, 40), SMALL)[0]
    origins = cloud(11, 150, reach)
    directions = cloud(12, 150) - origins
    near = first_hit(volume, SMALL, origins, directions)
    far = first_hit(volume, SMALL, origins, directions, far_side=True)
    hits = 0
    for i, (begin, way) in enumerate(zip(origins.double().numpy(), directions.double().numpy(), strict=True)):
        enters, leaves = chords(SMALL, begin, begin + way / np.linalg.norm(way))
        met = volume.numpy() & (leaves - np.maximum(enters, 0) > 1e-12)
        expected = np.inf, np.inf
        if met.any():
            first = np.argmin(np.where(met, enters, np.inf))
            expected = max(0.0, enters.flat[first]), leaves.flat[first]
        hits += met.any()
        assert (float(near[i]), float(far[i])) == pytest.approx(expected, abs=1e-9)
    assert 20 < hits < 150


def test_a_ray_that_begins_in_an_occupied_voxel_has_met_it():
    volume = torch.ones(SMALL.shape, dtype=torch.bool)
    directions = torch.tensor([[5.0, 0.0, 0.0], [0.0, -0.1, 0.0]])
    assert first_hit(volume, SMALL, (0.0, 0.0, 0.0), directions).tolist() == [0, 0]
    assert first_hit(volume, SMALL, (0.1, 0.1, 0.0), directions, far_side=True).tolist() == pytest.approx([0.5, 0.1])
    assert first_hit(~volume, SMALL, (0.1, 0.1, 0.0), directions).tolist() == [math.inf] * 2


@pytest.mark.parametrize("origin", [(0.05, 0.03, 0.02), (-4.013, 1.027, 3.031)])
def test_what_is_visible_is_what_rays_to_all_voxels_reach_by_slabs(origin):
    volume = occupancy(cloud(13, 80), SMALL)[0]
    hides = volume.numpy().copy()
    index, inside = SMALL.index_of(torch.tensor([origin]))
    if inside:
        hides[tuple(index[0])] = False
    reached = np.zeros(SMALL.shape, bool)
    for cell in np.argwhere(np.ones(SMALL.shape)):
        centre = np.array(SMALL.point_cloud_range[:3]) + (cell[::-1] + 0.5) * SMALL.voxel_size
        enters, leaves = chords(SMALL, np.array(origin), centre)
        crosses = np.minimum(leaves, 1) - np.maximum(enters, 0) > 1e-9
        reached |= crosses & (enters <= np.min(enters[crosses & hides], initial=np.inf))
    visible = visible_from(volume, SMALL, origin).numpy()
    assert (visible != reached).sum() <= 1  # by a hair
    assert 0.1 < visible.mean() < 0.9


def test_a_wall_hides_from_the_camera_what_is_behind_it():
    looks_along_x = ((0.0, -1.0, 0.0, 0.0), (0.0, 0.0, -1.0, 0.0), (1.0, 0.0, 0.0, 3.1), (0.0, 0.0, 0.0, 1.0))
    camera = Camera("front", 101, 101, ((50.0, 0.0, 50.0), (0.0, 50.0, 50.0), (0.0, 0.0, 1.0)), looks_along_x)
    states = torch.full(SMALL.shape, UNKNOWN, dtype=torch.uint8)
    empty = camera_visible((camera,), states, SMALL)
    sees = camera.sees(SMALL.centre_of(torch.ones(SMALL.shape).nonzero()).numpy()).reshape(SMALL.shape)
    assert torch.equal(empty, torch.from_numpy(sees))
    states[:, :, 4] = OCCUPIED
    behind = camera_visible((camera,), states, SMALL)
    assert torch.equal(behind[:, :, :4], empty[:, :, :4])
    assert empty[2:6, 3:9, 4].all()
    assert behind[2:6, 3:9, 4].all()  # the wall itself is seen
    assert not behind[:, :, 5:].any()
    assert empty[:, :, 5:].any()
    assert not camera_visible((), states, SMALL).any()


def test_flat_ground_is_seen_though_each_patch_stands_before_the_next():
    ground, eye = torch.zeros(SMALL.shape, dtype=torch.bool), (-2.9, 0.1, 0.1)
    ground[2] = True  # from z = -0.5 to -0.25
    seen = visible_from(ground, SMALL, eye)
    assert seen[2, 2:9, :8].all()  # rays that meet the last two columns lead out of the grid
    assert seen[3:].all()  # the air above
    assert not seen[:2].any()
    to_a_centre = first_hit(ground, SMALL, eye, SMALL.centre_of(torch.tensor([[2, 6, 7]])) - torch.tensor([eye]))
    assert float(to_a_centre) < 1.2 - -2.9 - 0.6  # more than a voxel before this one begins


def test_wrong_input_is_one_sentence():
    points, volume, ways = cloud(1, 5), torch.zeros(SMALL.shape, dtype=torch.bool), torch.ones(4, 3)
    calls = {
        r"origin of rays must be of shape \(3,\) or \(5, 3\), got \(4, 3\)": lambda: ray_states(points, SMALL, origin=ways),
        "origin of rays must be finite": lambda: ray_states(points, SMALL, origin=(0.0, math.nan, 0.0)),
        "origin of rays must be numbers": lambda: ray_states(points, SMALL, origin="here"),
        "expects floating-point points": lambda: ray_states(points.long(), SMALL),
        r"cast into must be bool of the grid's shape \(8, 12, 10\), got torch.float32": lambda: first_hit(
            volume.float(), SMALL, points[0], ways
        ),
        r"must be bool of the grid's shape .* got torch.bool \(12, 10\)": lambda: first_hit(volume[0], SMALL, points[0], ways),
        "origins of rays must be of shape": lambda: first_hit(volume, SMALL, points, ways),
        "got one of length 0": lambda: first_hit(volume, SMALL, points[0], 0 * ways),
        r"must be a tensor of shape \(R, 3\)": lambda: first_hit(volume, SMALL, points[0], ways[0]),
        "directions of rays must be finite": lambda: first_hit(volume, SMALL, points[0], ways / 0),
        "states of voxels must be bool": lambda: camera_visible((), torch.zeros(3, 3), SMALL),
    }
    for says, call in calls.items():
        with pytest.raises(OcclabError, match=says) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(visibility) == (0, 5)
