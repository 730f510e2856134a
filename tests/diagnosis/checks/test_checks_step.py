"""The checks of the training step: closed forms, planted faults with their predictions, and healthy networks left alone."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from step_task import Detached, held, network, scheduled, sgd, subject, trained
from torch import nn

from occlab import OccupancyLoss
from occlab.diagnosis.checks.step import PROBES, STRUCTURE, clipping, gradient_scale, update_ratio
from occlab.diagnosis.checks.verdicts import (
    Clips,
    coupled_decay,
    learnt,
    median_ratios,
    near_epsilon,
    rate_factor,
    ratio_evidence,
    scale_free,
)
from occlab.diagnosis.subject import Subject

pytestmark = pytest.mark.filterwarnings("ignore:Seems like `optimizer.step")  # of a scheduler that was copied


# --- numbers ------------------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=40), st.floats(1e-3, 1e3))
def test_clips_are_those_of_numpy(norms, limit):
    clips = Clips.of(norms, limit)
    assert clips.share == pytest.approx(np.mean(np.array(norms) > limit))
    assert clips.percentiles == pytest.approx(tuple(np.percentile(norms, [50, 90, 99])), rel=1e-9)
    factors = sorted(min(1.0, limit / (n + 1e-6)) for n in norms)
    assert clips.coefficient == pytest.approx(factors[(len(factors) - 1) // 2])  # torch's median is the lower of the middle two


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.AdamW, torch.optim.NAdam, torch.optim.RAdam])
def test_the_second_moment_of_a_constant_gradient_is_its_square(make):
    weight = nn.Parameter(torch.ones(4, 5))
    optimizer = make([weight], eps=1e-4)
    gradient = torch.full((4, 5), 2e-2)
    gradient[0] = 9e-4  # under ten epsilon
    gradient[1] = 0  # never saw one
    for _ in range(7):
        weight.grad = gradient.clone()
        optimizer.step()
    near = near_epsilon(optimizer)
    assert near.share == pytest.approx(5 / 15)
    assert near.median == pytest.approx(2e-2, rel=1e-4)


def test_without_second_moments_there_is_no_epsilon_to_be_near():
    weight = nn.Parameter(torch.ones(4, 5))
    assert near_epsilon(torch.optim.Adam([weight])) is None  # before the first step
    optimizer = torch.optim.SGD([weight], lr=0.1)
    weight.grad = torch.ones(4, 5)
    optimizer.step()
    assert near_epsilon(optimizer) is None


def test_the_update_ratio_of_plain_descent_is_rate_times_gradient_over_weight():
    model = nn.Conv2d(1, 1, 1)
    nn.init.constant_(model.weight, 2.0)
    s = Subject(model, torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4), lambda o, t: 3 * o.mean())
    s.optimizer, s.steps = torch.optim.SGD(model.parameters(), lr=0.1), 1
    assert median_ratios(s.own.ratios)["weight"] == pytest.approx(0.1 * 3 / 2)
    assert ratio_evidence(median_ratios(s.own.ratios))["median_log10"] == pytest.approx(math.log10(0.15))


def test_ratios_of_weights_that_are_zero_are_left_out_and_the_medians_are_over_steps():
    found = median_ratios([{"a": math.nan, "b": 1e-3}, {"a": 0.5, "b": 1e-1}, {"b": 1e-2}])
    assert found == {"a": 0.5, "b": 1e-2}
    evidence = ratio_evidence({"body": 1e-4, "head": 1e-2})
    assert evidence["body_log10"] == pytest.approx(-4)
    assert evidence["head_log10"] == pytest.approx(-2)
    assert evidence["smallest"][0] == "body"


@pytest.mark.parametrize("level", [-6, -4.2, -0.5, 2])
def test_the_factor_of_the_rate_leads_to_a_hundredth_of_the_weights(level):
    assert 10**level * rate_factor(level) == pytest.approx(0.01)
    assert rate_factor(-math.inf) == 1e6


def test_optimisers_are_told_apart():
    weights = [nn.Parameter(torch.ones(2, 2))]

    class Mine(torch.optim.SGD):
        pass

    class Lion(torch.optim.Optimizer):
        pass

    class Other(torch.optim.Optimizer):
        pass

    assert scale_free(torch.optim.AdamW(weights)) is True
    assert scale_free(torch.optim.RMSprop(weights)) is True
    assert scale_free(Lion(weights, {})) is True
    assert scale_free(Mine(weights, lr=1.0)) is False
    assert scale_free(Other(weights, {})) is None
    assert coupled_decay(torch.optim.Adam(weights, weight_decay=0.1)) == 0.1
    assert coupled_decay(torch.optim.AdamW(weights, weight_decay=0.1)) == 0
    assert coupled_decay(torch.optim.NAdam(weights, weight_decay=0.1, decoupled_weight_decay=True)) == 0
    assert coupled_decay(torch.optim.SGD(weights, lr=1.0, weight_decay=0.1)) == 0  # it has no size to be divided by


# --- clipping, epsilon, size of the steps -------------------------------------------------------------------------------


def test_clipping_costs_plain_descent_its_rate_and_adam_nothing():
    found = clipping(subject(optimizer=sgd, clip_norm=1e-3))
    assert found.verdict == "fail"
    assert found.evidence["clipped"] == 1
    assert held(found)
    found = clipping(subject(clip_norm=1e-3))
    assert found.verdict == "note"
    assert "divides" in found.why


def test_clipping_that_costs_nothing_is_not_blamed():
    assert clipping(subject(optimizer=sgd, clip_norm=100.0)).verdict == "pass"
    assert clipping(trained(optimizer=sgd, clip_norm=1e-3, steps=0)).verdict == "fail"
    done = trained(optimizer=sgd)
    done.clip_norm = 1e-6
    assert clipping(done).verdict == "note"  # it has learnt
    fast = subject(optimizer=lambda p: torch.optim.SGD(p, lr=5.0), clip_norm=0.05)
    assert clipping(fast).verdict == "note"  # every step is clipped, and the loss falls as the reference's
    assert clipping(subject()).verdict == "not-measurable"


def test_clipping_multiplies_a_decay_that_is_added_to_the_gradient():
    found = clipping(subject(optimizer=lambda p: torch.optim.Adam(p, lr=1e-3, weight_decay=0.3), clip_norm=1e-3))
    assert (found.verdict, found.evidence["kind"]) == ("warn", "coupled-decay")
    assert held(found)
    small = clipping(subject(optimizer=lambda p: torch.optim.Adam(p, lr=1e-3, weight_decay=1e-8), clip_norm=1e-3))
    assert small.verdict == "note"


def test_a_loss_too_small_for_epsilon_and_an_epsilon_too_large_for_the_loss():
    for changes in (
        {"loss": lambda o, t: 1e-9 * OccupancyLoss()(o, t)},
        {"optimizer": lambda p: torch.optim.AdamW(p, 3e-3, eps=1.0)},
    ):
        found = gradient_scale(subject(**changes))
        assert (found.verdict, found.evidence["kind"]) == ("fail", "epsilon")
        assert held(found)
    assert gradient_scale(subject()).verdict == "pass"
    assert gradient_scale(subject(optimizer=sgd)).verdict == "not-measurable"


def test_small_gradients_of_a_network_that_has_learnt_are_a_note():
    done = trained()
    for group in done.optimizer.param_groups:
        group["eps"] = 1e-3
    assert gradient_scale(done).verdict == "note"


@pytest.mark.parametrize("make", [lambda p: torch.optim.AdamW(p, lr=1e-7), lambda p: torch.optim.SGD(p, lr=1e-7)])
def test_a_rate_that_moves_nothing_fails_and_the_predicted_one_trains(make):
    found = update_ratio(subject(optimizer=make))
    assert (found.verdict, found.evidence["kind"]) == ("fail", "too-small")
    assert found.evidence["median_log10"] < -4
    assert held(found)


@pytest.mark.parametrize("make", [lambda p: torch.optim.AdamW(p, lr=3.0), lambda p: torch.optim.SGD(p, lr=300.0)])
def test_a_rate_that_throws_the_weights_about_fails_and_the_predicted_one_trains(make):
    found = update_ratio(subject(network(norm=False), make))
    assert (found.verdict, found.evidence["kind"]) == ("fail", "too-large")
    assert held(found)


def test_small_steps_are_right_late_and_in_a_warm_up():
    done = trained()
    for group in done.optimizer.param_groups:
        group["lr"] = 1e-8
    assert update_ratio(done).verdict == "pass"
    s = scheduled(lambda t: (t + 1) * 1e-6)
    assert update_ratio(s).verdict == "note"


# --- all of them --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [sgd, lambda p: torch.optim.AdamW(p, lr=3e-3), lambda p: torch.optim.Adam(p, lr=1e-3)])
@pytest.mark.parametrize(("norm", "steps"), [(True, 0), (False, 100)])
def test_healthy_training_raises_no_alarm(make, norm, steps):
    s = trained(model=network(norm=norm), optimizer=make, clip_norm=1.0, steps=steps)
    assert [f.id for check in (*STRUCTURE, *PROBES) if (f := check(s)).alarming] == []


def test_classes_are_held_against_how_often_each_occurs():
    model = nn.Sequential(network(last=nn.Conv2d(16, 8, 1)), nn.Unflatten(1, (2, 4)))
    s = subject(model, loss=nn.CrossEntropyLoss())
    s.target = s.target.long()
    p = float(s.target.float().mean())
    entropy = -p * math.log(p) - (1 - p) * math.log(1 - p)
    assert learnt(s, 0.51 * entropy, 0.49 - 1e-3)
    assert not learnt(s, 0.51 * entropy, 0.49 + 1e-3)
    s.train(model, s.optimizer, steps=300)
    done = replace(s, optimizer=torch.optim.AdamW(model.parameters(), lr=1e-8))
    for group in done.optimizer.param_groups:
        group["initial_lr"] = 1e-3
    assert [f.id for check in (*STRUCTURE, *PROBES) if (f := check(done)).alarming] == []


def test_the_subject_is_left_as_it_was():
    model = network()
    model.insert(3, Detached())
    s = subject(model, sgd, clip_norm=1e-3)
    before = copy.deepcopy((s.model.state_dict(), s.optimizer.state_dict(), s.inputs))
    for check in (*STRUCTURE, *PROBES):
        check(s)
    for name, t in s.model.state_dict().items():
        assert torch.equal(t, before[0][name])
    assert s.optimizer.state_dict() == before[1]
    assert torch.equal(s.inputs, before[2])
    assert all(p.grad is None and not p._backward_hooks for p in s.model.parameters())
    assert not any(m._forward_hooks for m in s.model.modules())
