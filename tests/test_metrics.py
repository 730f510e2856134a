"""Metrics against torchmetrics and by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import (
    binary_average_precision,
    binary_jaccard_index,
    binary_precision,
    binary_recall,
)

from occlab import OcclabError, OccupancyScore, trivial_scores
from occlab.metrics import iou


def sample(seed, shape=(2, 3, 8, 9)):
    generator = torch.Generator().manual_seed(seed)
    target = (torch.rand(shape, generator=generator) < 0.2).float()
    p = torch.sigmoid(torch.randn(shape, generator=generator) + 2 * target - 1)
    return (p * 4096).round() / 4096, target  # on the histogram's own edges, where binning changes nothing


def score_of(p, target, mask=None):
    score = OccupancyScore()
    score.update(p, target, mask)
    return score


@settings(deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.25, 0.5, 0.75]))
def test_scores_are_torchmetrics(seed, threshold):
    p, target = sample(seed)
    scores, label = score_of(p, target).compute(threshold), target.int()
    assert scores.iou == pytest.approx(binary_jaccard_index(p, label, threshold).item(), abs=1e-6)
    assert scores.precision == pytest.approx(binary_precision(p, label, threshold).item(), abs=1e-6)
    assert scores.recall == pytest.approx(binary_recall(p, label, threshold).item(), abs=1e-6)
    assert scores.average_precision == pytest.approx(binary_average_precision(p, label).item(), abs=1e-6)


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_best_iou_is_the_best_of_all_thresholds(seed):
    p, target = sample(seed)
    scores = score_of(p, target).compute()
    by_hand = {float(t): iou(p > t, target) for t in p.unique()}
    assert scores.best_iou == pytest.approx(max(by_hand.values()), abs=1e-6)
    assert iou(p > scores.best_threshold, target) == pytest.approx(scores.best_iou, abs=1e-6)


def test_frames_accumulate_and_heights_add_up():
    p, target = sample(1)
    score = OccupancyScore()
    for i in range(2):
        score.update(p[i : i + 1], target[i : i + 1])
    assert score.compute() == score_of(p, target).compute()
    for z, scores in enumerate(score.per_height()):
        assert scores.iou == pytest.approx(iou(p[:, z] > 0.5, target[:, z]))


def test_a_mask_leaves_cells_out():
    p, target = sample(2)
    mask = torch.rand(2, 1, 8, 9) > 0.5
    everywhere = mask.expand_as(target)
    assert score_of(p, target, mask).compute().iou == pytest.approx(iou(p[everywhere] > 0.5, target[everywhere]))


def test_a_dead_head_calls_nothing_occupied():
    _, target = sample(3)
    scores = score_of(torch.full_like(target, 0.5), target).compute()
    assert (scores.iou, scores.precision, scores.recall) == (0, 0, 0)
    just_above = torch.nextafter(torch.tensor(0.5), torch.tensor(1.0))
    assert score_of(just_above.expand_as(target), target).compute().recall == 1


def test_soft_targets_count_as_occupied_above_zero():
    target = torch.tensor([0.26, 0.0, 0.9, 0.0]).view(1, 1, 1, 4)
    assert score_of((target > 0).float(), target).compute().iou == 1


def test_empty_against_empty_is_zero_and_not_nan():
    nothing = torch.zeros(1, 1, 4, 4)
    assert score_of(nothing, nothing).compute().iou == 0
    assert iou(nothing, nothing) == 0


def test_trivial_scores():
    _, target = sample(4)
    scores = trivial_scores(target, {"the truth": target})
    rate = target.mean().item()
    assert scores["all empty"].iou == 0
    assert scores["all occupied"].iou == pytest.approx(rate)
    assert scores["all occupied"].average_precision == pytest.approx(rate)
    assert scores["the truth"].iou == 1


def test_bad_input_is_refused():
    p, target = sample(5)
    for wrong in (p + 1, p * float("nan"), -p - 0.1):
        with pytest.raises(OcclabError, match="sigmoid"):
            score_of(wrong, target)
    with pytest.raises(OcclabError, match="one shape"):
        score_of(p[:, :2], target)
    with pytest.raises(OcclabError, match="no prediction yet"):
        OccupancyScore().compute()
    with pytest.raises(OcclabError, match="threshold"):
        score_of(p, target).compute(1.5)


def test_a_probability_of_zero_is_above_no_threshold():
    _, target = sample(6)
    scores = score_of(torch.zeros_like(target), target).compute(0.0)
    assert (scores.iou, scores.recall, scores.best_iou) == (0, 0, 0)
    assert scores.average_precision == pytest.approx(target.mean().item())  # p >= 0 is everything, as torchmetrics has it


def test_thresholds_between_bins_are_rounded_down():
    p, target = torch.full((1, 1, 1, 1), 0.30001), torch.ones(1, 1, 1, 1)
    assert score_of(p, target).compute(0.3).iou == 1
    assert score_of(torch.ones_like(p), target).compute(0.99995).iou == 1
