"""Batches: every frame once an epoch, three separate random streams, mirrored frames, masks."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from occlab import OcclabError, VoxelGrid, hard_occupancy, occupancy, voxelize
from occlab.training import Batches, Movement
from occlab.training.data import stream


def test_every_frame_once_an_epoch_and_in_a_new_order(frames, config):
    batches = Batches(frames, config)
    means = [batch.target.mean().item() for batch in batches]
    epochs = [[batches[4 * e + i].target.mean().item() for i in range(4)] for e in range(6)]
    assert all(sorted(epoch) == sorted(means) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_batches_span_epochs(frames, config):
    batches = Batches(frames, replace(config, batch_size=3))
    single = Batches(frames, config)
    for step in range(4):
        expected = torch.cat([single[3 * step + i].target for i in range(3)])
        assert torch.equal(batches[step].target, expected)


def test_streams_are_separate():
    draws = {
        (s, n, t): torch.rand(1, generator=stream(s, n, t)).item() for s in (0, 1) for n in ("init", "data") for t in (0, 1)
    }
    assert len(set(draws.values())) == len(draws)
    assert torch.rand(1, generator=stream(0, "data", 1)).item() == draws[0, "data", 1]


def test_targets(frames, config):
    soft, hard = (Batches(frames, replace(config, targets=kind)).frame(0).target for kind in ("soft", "hard"))
    expected = occupancy(torch.from_numpy(frames[0].lidar), config.grid)
    assert torch.equal(hard > 0, expected)
    assert torch.equal(soft > 0, expected)
    assert set(hard.unique().tolist()) == {0.0, 1.0}
    assert 0 < soft[soft > 0].min() < soft.max() <= 1


def test_a_mirrored_frame_is_the_mirrored_volume(frames, config):
    batches = Batches(frames, replace(config, targets="hard", flip=True))
    plain = batches.frame(1).target
    for flip, axes in (((True, False), [3]), ((False, True), [2]), ((True, True), [2, 3])):
        mirrored = batches.frame(1, Movement(flip)).target
        # A point on the edge of a cell may change cells, as cells are half-open.
        assert (mirrored != plain.flip(axes)).float().mean() < 1e-3
        assert (mirrored != plain).float().mean() > 1e-2


def test_flip_mirrors_some_frames_and_is_repeatable(frames, config):
    batches = Batches(frames, replace(config, flip=True))
    plain = Batches(frames, config)
    same = [torch.equal(batches[i].target, plain[i].target) for i in range(16)]
    assert 0 < sum(same) < 16
    assert all(torch.equal(batches[i].features, Batches(frames, replace(config, flip=True))[i].features) for i in (3, 7))


def test_flip_needs_a_centred_grid(frames, config):
    grid = VoxelGrid((0.0, -10.8, -5.0, 21.6, 10.8, 3.0))
    with pytest.raises(OcclabError, match="centred"):
        Batches(frames, replace(config, flip=True, grid=grid))


def test_a_view_becomes_a_mask(frames, config, forward_view):
    seen = [replace(frames[0], view=(forward_view,)), frames[1]]
    batches = Batches(seen, replace(config, batch_size=2))
    mask = batches.frame(0).mask
    centres = config.grid.centre_of(
        torch.stack(torch.meshgrid(*(torch.arange(n) for n in config.grid.shape), indexing="ij"), -1).view(-1, 3)
    )
    x, y, z = centres.unbind(1)
    expected = (x > 0.5) & (y.abs() < x) & (z.abs() < x)
    assert (mask.flatten() != expected).float().mean() < 0.02  # half a pixel at the image's edge
    target, masks = batches.targets()
    assert target.shape == masks.shape == (2, *config.grid.shape)
    assert masks[1].all()
    assert batches[0].mask.shape == batches[0].target.shape


def test_features_are_of_the_pseudo_cloud(frames, config):
    features = Batches(frames, config).frame(2).features
    expected = hard_occupancy(voxelize(torch.from_numpy(frames[2].pseudo), config.grid))
    assert torch.equal(features[:, :32], expected)


def test_no_frames_is_refused(config):
    with pytest.raises(OcclabError, match="at least one frame"):
        Batches([], config)


def test_a_frame_outside_the_grid_is_refused_and_not_taken_for_an_empty_street(frames, config):
    far = frames[0].lidar + np.array([40, 0, 0, 0], np.float32)
    for what in ("lidar", "pseudo"):
        with pytest.raises(OcclabError, match=r"blocks-0: none of its \d+ (LiDAR|pseudo) points lies in the grid"):
            Batches([replace(frames[0], **{what: far})], config).frame(0)


def test_a_camera_that_sees_no_voxel_is_refused(frames, config, forward_view):
    placed = np.array(forward_view.lidar_to_camera)
    placed[2, 3] = -200.0  # 200 m behind everything it would see
    with pytest.raises(OcclabError, match="cameras see no voxel"):
        Batches([replace(frames[0], view=(replace(forward_view, lidar_to_camera=placed),))], config).frame(0)


def test_a_batch_larger_than_the_data_is_refused(frames, config):
    with pytest.raises(OcclabError, match="only 4 frames"):
        Batches(frames, replace(config, batch_size=5))[0]
