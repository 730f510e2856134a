"""Which parameters are trained, and at what rate: planted faults with their predictions, and what is right left alone."""

import math

import pytest
import torch
from step_task import STEPS, Detached, held, network, scheduled, subject, trained
from torch import nn

from occlab.diagnosis.checks.parameters import frozen_parameters, schedule, unchanged_parameters

pytestmark = pytest.mark.filterwarnings("ignore:Seems like `optimizer.step")  # of a scheduler that was copied


# --- what is trained ----------------------------------------------------------------------------------------------------


def numel(*modules):
    return sum(p.numel() for m in modules for p in m.parameters())


def test_a_detached_part_is_named_with_its_share_and_the_gradient_let_through_trains_it():
    model = network()
    model.insert(3, Detached())
    found = frozen_parameters(subject(model))
    assert (found.verdict, found.evidence["kind"]) == ("fail", "not-in-graph")
    assert found.evidence["share"] == pytest.approx(numel(model[0], model[1]) / numel(model))
    assert found.evidence["parameters"] == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert held(found)


def test_a_pass_without_gradients_inside_is_the_same():
    class Backbone(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Conv2d(6, 16, 3, padding=1), nn.Conv2d(16, 4, 1)

        def forward(self, x):
            with torch.no_grad():
                x = self.body(x)
            return self.head(x)

    found = frozen_parameters(subject(Backbone()))
    assert found.evidence["parameters"] == ["body.weight", "body.bias"]
    assert held(found)


class WithSpare(nn.Module):
    def __init__(self, spare):
        super().__init__()
        self.spare, self.net = spare, network()

    def forward(self, x):
        return self.net(x)


def test_a_large_layer_that_is_never_called_is_a_warning_and_a_small_one_a_note():
    large = frozen_parameters(subject(WithSpare(nn.Conv2d(16, 16, 3))))
    small = frozen_parameters(subject(WithSpare(nn.Conv2d(2, 3, 1))))
    assert [large.verdict, small.verdict] == ["warn", "note"]
    assert large.evidence["parameters"] == ["spare.weight", "spare.bias"]


def test_a_layer_that_is_skipped_at_random_is_not_unused():
    class Sometimes(WithSpare):
        calls = 0

        def forward(self, x):
            Sometimes.calls += 1
            return self.net(x) + (self.spare(x) if Sometimes.calls % 3 == 0 else 0)

    assert frozen_parameters(subject(Sometimes(nn.Conv2d(6, 4, 3, padding=1)))).verdict == "pass"


def test_what_the_optimiser_does_not_hold_is_named_and_trains_once_it_does():
    model = network()
    s = subject(model, lambda _: torch.optim.SGD([*model[0].parameters(), *model[1].parameters()], lr=0.1))
    found = frozen_parameters(s)
    assert (found.verdict, found.evidence["kind"]) == ("fail", "not-in-optimizer")
    assert found.evidence["share"] == pytest.approx(1 - numel(model[0], model[1]) / numel(model))
    assert held(found)


def test_a_small_last_layer_outside_of_the_optimiser_is_no_trifle():
    model = network(last=nn.Conv2d(16, 1, 1))
    model = nn.Sequential(nn.Conv2d(6, 6, 1), model, nn.Conv2d(1, 4, 1, bias=False))
    found = frozen_parameters(
        subject(model, lambda _: torch.optim.SGD([*model[0].parameters(), *model[1].parameters()], lr=0.1))
    )
    assert found.evidence["share"] < 0.01
    assert found.verdict == "fail"


def test_nothing_that_asks_for_a_gradient_is_a_failure_and_a_part_of_it_a_note():
    found = frozen_parameters(subject(network().requires_grad_(False)))
    assert (found.verdict, found.evidence["kind"]) == ("fail", "nothing-trainable")
    assert held(found)
    model = network()
    model[0].requires_grad_(False)
    found = frozen_parameters(subject(model))
    assert found.verdict == "note"
    assert found.evidence["frozen_on_purpose"] == pytest.approx(numel(model[0]) / numel(model))


def test_a_loss_without_a_gradient_is_left_to_another_check():
    found = frozen_parameters(subject(loss=lambda o, t: ((o > 0).float() - t).square().mean()))
    assert found.verdict == "not-measurable"


def test_a_weight_that_is_put_back_after_each_step_is_found():
    class Reset(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network()
            self.register_buffer("kept", self.net[0].weight.detach().clone())

        def forward(self, x):
            self.net[0].weight.data.copy_(self.kept)
            return self.net(x)

    class Rescued(torch.optim.AdamW):
        """Leaves the first weight alone: a faulty optimiser."""

        @torch.no_grad()
        def step(self, closure=None):
            self.param_groups[0]["params"][0].grad = None
            super().step(closure)

    assert unchanged_parameters(subject()).verdict == "pass"
    found = unchanged_parameters(subject(optimizer=lambda p: Rescued(p, lr=1e-3)))
    assert found.evidence["parameters"] == ["0.weight"]
    assert (found.verdict, found.evidence["kind"]) == ("fail", "unchanged-by-step")
    assert unchanged_parameters(subject(Reset())).evidence["parameters"] == ["net.0.weight"]


def test_a_rate_that_rounding_swallows_is_not_called_frozen():
    assert unchanged_parameters(subject(optimizer=lambda p: torch.optim.SGD(p, lr=1e-12))).verdict == "pass"


# --- the learning rate --------------------------------------------------------------------------------------------------


def test_a_rate_of_zero_fails_and_its_prediction_holds():
    found = schedule(subject(optimizer=lambda p: torch.optim.AdamW(p, lr=0.0)))
    assert (found.verdict, found.evidence["kind"]) == ("fail", "rate-zero")
    assert held(found)


def test_a_group_without_a_rate_is_weighed_by_its_share():
    model = network()
    groups = lambda _: torch.optim.AdamW([{"params": model[0].parameters(), "lr": 0.0}, {"params": model[1:].parameters()}])  # noqa: E731
    found = schedule(subject(model, groups))
    assert found.verdict == "warn"
    assert found.evidence["share"] == pytest.approx(numel(model[0]) / numel(model))


def test_warm_ups_are_healthy_long_ones_a_note_and_one_that_never_starts_a_failure():
    assert schedule(scheduled(lambda t: min(t / 20, 1))).verdict == "pass"
    long = schedule(scheduled(lambda t: min(t / 1e4, 1)))
    assert long.verdict == "note"
    assert long.evidence["highest_to_come"] == pytest.approx(3e-3 * 10 * STEPS / 1e4)
    never = schedule(scheduled(lambda t: t * 1e-12))
    assert (never.verdict, never.evidence["kind"]) == ("fail", "never-warms-up")


def test_a_schedule_that_is_over_at_once_fails_and_one_that_comes_back_is_a_note():
    found = schedule(scheduled(lambda t: 0.5**t))
    assert (found.verdict, found.evidence["kind"]) == ("fail", "decays-too-early")
    assert "within 7 steps" in found.title  # 0.5^7 < 0.01
    assert held(found)
    assert schedule(scheduled(lambda t: 0.5 * (1 + math.cos(math.pi * t / 20)))).verdict == "note"
    assert schedule(scheduled(lambda t: 0.5 * (1 + math.cos(math.pi * min(t / 1000, 1))))).verdict == "pass"


def test_the_end_of_a_schedule_is_healthy_in_a_trained_network_and_a_warning_in_one_that_is_not():
    cosine = lambda t: max(0.5 * (1 + math.cos(math.pi * min(t / 100, 1))), 1e-4)  # noqa: E731
    done = trained()
    assert schedule(scheduled(cosine, done, last=99)).verdict == "pass"
    found = schedule(scheduled(cosine, last=99))
    assert (found.verdict, found.evidence["kind"]) == ("warn", "decayed-before-it-learnt")


def test_a_tiny_rate_of_an_unknown_schedule_is_a_note_at_most():
    s = scheduled(lambda t: 1e-4)
    s.scheduler = None
    assert schedule(s).verdict == "note"
    assert schedule(subject(optimizer=False)).verdict == "not-measurable"


def test_a_scheduler_that_asks_for_a_metric_is_not_simulated():
    s = subject()
    s.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(s.optimizer)
    assert schedule(s).verdict == "pass"
