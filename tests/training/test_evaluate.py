"""Scores on other frames agree with the summary's, made by the training itself."""

import pytest
import torch

from occlab import OcclabError, occupancy
from occlab.metrics import iou
from occlab.training import evaluate, iou_by_height, train


def test_held_out_frames_score_as_in_the_summary(frames, config, tmp_path):
    run = train(config, frames[:3], frames[3:], root=tmp_path, progress=False)
    scores, summary = evaluate(run, frames[3:]), run.summary["held_out"]
    for name in ("batch_statistics", "running_statistics"):
        assert scores[name] == pytest.approx(summary[name])
    assert scores["the input itself"] == pytest.approx(summary["trivial"]["the input itself"])


def test_the_input_is_scored_as_the_voxelised_clouds_are(frames, config, tmp_path):
    run = train(config, frames[:3], root=tmp_path, progress=False)
    clouds = [occupancy(torch.from_numpy(points), config.grid) for points in (frames[3].pseudo, frames[3].lidar)]
    assert evaluate(run, frames[3:])["the input itself"]["iou"] == pytest.approx(iou(*clouds), abs=1e-6)


def test_no_frame_is_refused(frames, config, tmp_path):
    run = train(config, frames[:3], root=tmp_path, progress=False)
    with pytest.raises(OcclabError, match="at least one frame"):
        evaluate(run, [])


def test_iou_by_height_is_the_summary_s_where_there_is_something_to_hit(frames, config, tmp_path):
    run = train(config, frames[:3], frames[3:], root=tmp_path, progress=False)
    occupied = occupancy(torch.from_numpy(frames[3].lidar), config.grid)[0].flatten(1).any(1).tolist()
    assert not all(occupied)
    at_half, best = iou_by_height(run, frames[3:]), iou_by_height(run, frames[3:], threshold=None)
    assert [value is not None for value in at_half] == [value is not None for value in best] == occupied
    for mine, top, told in zip(at_half, best, run.summary["held_out"]["iou_per_height"], strict=True):
        if mine is not None:
            assert mine == pytest.approx(told, abs=1e-6)
            assert top >= mine
