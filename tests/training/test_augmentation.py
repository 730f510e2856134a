"""Moved frames: clouds, targets and masks move together, as scipy and torch move them; draws leave each other alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from occlab import OcclabError, VoxelGrid, hard_occupancy, voxelize
from occlab.frames import view_mask
from occlab.training import Batches, Movement
from occlab.training.augmentation import draw_movements, move_mask, move_points
from occlab.training.data import stream

flips = st.tuples(st.booleans(), st.booleans())


def mirrored_and_turned(volume, flip, turns):
    """(..., Y, X), by torch alone: x to y is a turn from the last axis to the one before."""
    return torch.rot90(volume.flip([-1] * flip[0] + [-2] * flip[1]), turns, dims=(-1, -2))


@given(flips, st.integers(0, 3), st.floats(-180, 180), st.integers(0, 2**31))
def test_points_move_as_scipy_turns_them(flip, turns, degrees, seed):
    points = np.random.default_rng(seed).uniform(-50, 50, (20, 4)).astype(np.float32)
    expected = points[:, :3] * [-1 if flip[0] else 1, -1 if flip[1] else 1, 1]
    expected = Rotation.from_euler("z", 90 * turns + degrees, degrees=True).apply(expected)
    moved = move_points(torch.from_numpy(points), Movement(flip, turns, degrees))
    np.testing.assert_allclose(moved, expected, atol=2e-5)


@given(flips, st.integers(0, 3))
def test_mirrors_and_quarter_turns_are_exact(flip, turns):
    movement = Movement(flip, turns)
    assert set(movement.matrix) <= {-1.0, 0.0, 1.0}
    points = torch.rand(50, 3)
    x, y, z = move_points(points, movement).unbind(1)
    pair = torch.stack([x.abs(), y.abs()], 1).flip([1] * (turns % 2))
    assert torch.equal(pair, points[:, :2])
    assert torch.equal(z, points[:, 2])


def test_there_are_eight_symmetries():
    matrices = {Movement((a, b), turns).matrix for a in (False, True) for b in (False, True) for turns in range(4)}
    assert len(matrices) == 8


@given(flips, st.integers(0, 3), st.integers(1, 7), st.integers(0, 2**31))
def test_a_mask_moves_exactly(flip, turns, n, seed):
    grid = VoxelGrid.from_shape((-3.3, -3.3, -1.0, 3.3, 3.3, 1.0), (2, n, n))
    mask = torch.rand(2, n, n, generator=torch.Generator().manual_seed(seed)) < 0.5
    assert torch.equal(move_mask(mask, Movement(flip, turns), grid), mirrored_and_turned(mask, flip, turns))


@given(flips)
def test_a_mask_is_mirrored_on_a_grid_that_is_not_square(flip):
    grid = VoxelGrid.from_shape((-3.0, -2.0, -1.0, 3.0, 2.0, 1.0), (2, 5, 4))
    mask = torch.rand(2, 5, 4) < 0.5
    assert torch.equal(move_mask(mask, Movement(flip), grid), mirrored_and_turned(mask, flip, 0))


@pytest.mark.parametrize("degrees", [-45.0, -3.0, 0.5, 10.0, 100.0])
def test_a_turned_mask_is_what_the_turned_camera_sees(forward_view, frames, config, degrees):
    """The reference turns the camera and asks it anew; cells at the edge of its view may differ, by rounding to a cell."""
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("z", degrees, degrees=True).as_matrix()
    turned = replace(forward_view, lidar_to_camera=np.array(forward_view.lidar_to_camera) @ turn.T)
    plain, expected = (view_mask(replace(frames[0], view=(view,)), config.grid) for view in (forward_view, turned))
    mask = move_mask(plain, Movement(degrees=degrees), config.grid)
    inside = move_mask(torch.ones_like(plain), Movement(degrees=degrees), config.grid)
    assert (mask != expected)[inside].float().mean() < 0.03
    assert not mask[~inside].any()


def test_cells_turned_in_from_outside_the_grid_do_not_count(config):
    """Of a square turned by 45 degrees, sqrt(2) - 1 twice is left on itself: the regular octagon."""
    whole = torch.ones(config.grid.shape, dtype=torch.bool)
    turned = move_mask(whole, Movement(degrees=45.0), config.grid)
    assert turned.float().mean() == pytest.approx(2 * (2**0.5 - 1), abs=0.01)


def test_a_turned_frame_is_the_turned_volume(frames, config):
    batches = Batches(frames, replace(config, targets="hard", quarter_turns=True))
    plain = batches.frame(1).target
    for turns in (1, 2, 3):
        turned = batches.frame(1, Movement(turns=turns))
        # A point on the edge of a cell may change cells, as cells are half-open.
        assert (turned.target != mirrored_and_turned(plain, (False, False), turns)).float().mean() < 1e-3
        assert (turned.target != plain).float().mean() > 1e-2


def test_pseudo_and_lidar_points_turn_together(frames, config):
    batch = Batches(frames, replace(config, targets="hard", rotation=30.0)).frame(2, Movement(degrees=20.0))
    turn = Rotation.from_euler("z", 20, degrees=True)
    for volume, points in ((batch.features[:, :32], frames[2].pseudo), (batch.target, frames[2].lidar)):
        turned = torch.from_numpy(turn.apply(points[:, :3]).astype(np.float32))
        assert (volume != hard_occupancy(voxelize(turned, config.grid))).float().mean() < 1e-4


def test_flips_alone_are_drawn_as_they_always_were(config):
    for step in range(8):
        old = torch.rand(3, 2, generator=stream(0, "augmentation", step)) < 0.5
        for change in ({}, {"quarter_turns": True}, {"rotation": 10.0}):
            drawn = draw_movements(replace(config, flip=True, **change), 3, stream(0, "augmentation", step))
            assert [m.flip for m in drawn] == [tuple(row) for row in old.tolist()]


def test_what_is_switched_off_does_not_move(config):
    assert set(draw_movements(config, 50, stream(0, "augmentation"))) == {Movement()}


def test_draws_cover_their_range_evenly(config):
    config = replace(config, quarter_turns=True, rotation=10.0)
    drawn = draw_movements(config, 4000, stream(0, "augmentation"))
    counts = np.bincount([m.turns for m in drawn], minlength=4)
    assert counts.min() > 900
    degrees = np.array([m.degrees for m in drawn])
    assert np.abs(degrees).max() <= 10
    assert np.histogram(degrees, 4, (-10, 10))[0].min() > 900


def test_only_moves_that_come_back_are_kept(frames, config):
    def kept(**change):
        batches = Batches(frames, replace(config, **change))
        for step in range(100):
            batches[step]
        return len(batches._voxels)

    assert 8 < kept(flip=True, quarter_turns=True) <= 8 * len(frames)
    assert kept(flip=True, quarter_turns=True, rotation=5.0) == 0


def test_evaluation_never_moves(frames, config):
    plain, moving = Batches(frames, config), Batches(frames, replace(config, flip=True, quarter_turns=True, rotation=20.0))
    assert all(torch.equal(a.features, b.features) for a, b in zip(plain, moving, strict=True))
    assert torch.equal(plain.targets()[0], moving.targets()[0])
    assert not torch.equal(plain[0].features, moving[0].features)


def test_a_view_moves_with_its_frame(frames, config, forward_view):
    seen = [replace(frames[0], view=(forward_view,))]
    batches = Batches(seen, replace(config, flip=True, quarter_turns=True))
    plain = batches.frame(0).mask
    for flip, turns in (((True, False), 0), ((False, True), 3)):
        assert torch.equal(batches.frame(0, Movement(flip, turns)).mask, mirrored_and_turned(plain, flip, turns))


@pytest.mark.parametrize(
    "box", [(0.0, -10.8, -5.0, 21.6, 10.8, 3.0), (-10.8, -5.4, -5.0, 10.8, 5.4, 3.0), (-10.8, -5.4, -5.0, 10.8, 16.2, 3.0)]
)
def test_quarter_turns_need_a_square_centred_grid(frames, config, box):
    with pytest.raises(OcclabError, match="quarter_turns needs a grid that is square and centred"):
        Batches(frames, replace(config, quarter_turns=True, grid=VoxelGrid(box)))


def test_quarter_turns_need_square_cells(frames, config):
    grid = VoxelGrid((-10.8, -10.8, -5.0, 10.8, 10.8, 3.0), (0.6, 0.3, 0.25))
    with pytest.raises(OcclabError, match="quarter_turns needs"):
        Batches(frames, replace(config, quarter_turns=True, grid=grid))
