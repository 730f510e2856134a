"""The range test: rates grow as a geometric series, and it ends where the loss does."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from occlab import OcclabError, OccupancyUNet
from occlab.training import Batches, build_model, learning_rate_range_test, range_test, training_steps


def test_rates_grow_exponentially_from_low_to_high(frames, config):
    config = replace(config, schedule="cosine", warmup_steps=3, learning_rate=77.0)  # none of which is used
    steps = learning_rate_range_test(config, frames, low=1e-6, high=1e-3, steps=7)
    np.testing.assert_allclose([s.learning_rate for s in steps], np.geomspace(1e-6, 1e-3, 7))
    assert [s.step for s in steps] == list(range(1, 8))


def test_it_begins_where_the_run_would(frames, config):
    first = next(training_steps(build_model(config, Batches(frames, config)), Batches(frames, config), config))
    steps = learning_rate_range_test(config, frames, steps=2)
    assert steps[0].loss == first.loss


def test_it_ends_once_the_loss_is_four_times_its_lowest(frames, config):
    free = replace(config, model=replace(config.model, head="logits"), optimizer="sgd", momentum=0.0, clip_norm=None)
    steps = learning_rate_range_test(free, frames, low=1.0, high=1e8, steps=40)
    losses = [s.loss for s in steps]
    assert len(losses) < 40
    assert losses[-1] > 4 * min(losses)
    assert all(loss <= 4 * min(losses[: i + 1]) for i, loss in enumerate(losses[:-1]))


class Overflowing(OccupancyUNet):
    """Its third forward pass gives infinite logits."""

    passes, last = 0, 2

    def forward(self, features):
        self.passes += 1
        return super().forward(features) * (float("inf") if self.passes > self.last else 1.0)


def test_a_loss_that_is_not_finite_ends_it_and_the_steps_before_are_kept(frames, config, monkeypatch):
    monkeypatch.setattr(range_test, "build_model", lambda config, _: Overflowing(config.model))
    assert len(learning_rate_range_test(config, frames, steps=5)) == 2
    monkeypatch.setattr(Overflowing, "last", 0)
    with pytest.raises(OcclabError, match="training stopped at step 1"):
        learning_rate_range_test(config, frames, steps=5)


def test_other_errors_are_not_taken_for_the_end(frames, config):
    with pytest.raises(OcclabError, match="only 4 frames"):
        learning_rate_range_test(replace(config, batch_size=5), frames, steps=5)


@pytest.mark.parametrize("change", [{"low": 0}, {"low": 1.0, "high": 1.0}, {"high": float("inf")}, {"steps": 1}])
def test_a_range_that_is_none_is_refused(frames, config, change):
    with pytest.raises(OcclabError, match="a range test needs 0 < low < high"):
        learning_rate_range_test(config, frames, **change)


def test_the_caller_may_set_the_rate_of_any_run(frames, config):
    torch.manual_seed(0)
    steps = training_steps(OccupancyUNet(config.model), Batches(frames, config), config, rate=lambda number: 0.0)
    assert [next(steps).update_ratio for _ in range(2)] == [0.0, 0.0]
