"""The checks of the training step: closed forms, planted faults with their predictions, and healthy networks left alone."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from occlab import OccupancyLoss
from occlab.diagnosis.checks_layers import dead_channels, silent_option
from occlab.diagnosis.checks_parameters import frozen_parameters, schedule, unchanged_parameters
from occlab.diagnosis.checks_step import PROBES, STRUCTURE, clipping, gradient_scale, update_ratio
from occlab.diagnosis.step_verdicts import (
    Clips,
    coupled_decay,
    dead_share,
    median_ratios,
    near_epsilon,
    rate_factor,
    ratio_evidence,
    scale_free,
)
from occlab.diagnosis.subject import Subject

STEPS = 30


def batch(seed=0):
    """Columns to be told from their noisy counts, among channels of noise: (2, 6, 12, 12) and (2, 4, 12, 12)."""
    g = torch.Generator().manual_seed(seed)
    target = (torch.rand(2, 4, 12, 12, generator=g) < 0.1).float()
    counts = torch.poisson(5 * target + 0.02, generator=g)
    return torch.cat([counts, torch.randn(2, 2, 12, 12, generator=g)], 1), target


def network(seed=0, norm=True, last=None):
    torch.manual_seed(seed)
    stage = lambda a, b: [nn.Conv2d(a, b, 3, padding=1), *([nn.BatchNorm2d(b)] if norm else []), nn.ReLU()]  # noqa: E731
    return nn.Sequential(*stage(6, 16), *stage(16, 16), last or nn.Conv2d(16, 4, 1))


def subject(model=None, optimizer=None, seed=0, **changes):
    """An occupancy task with AdamW at 3e-3, or what ``optimizer(parameters)`` makes."""
    model = network(seed) if model is None else model
    made = (optimizer or (lambda p: torch.optim.AdamW(p, lr=3e-3)))(model.parameters()) if optimizer is not False else None
    inputs, target = batch(seed)
    settings_of = {"loss": OccupancyLoss(), "steps": STEPS} | changes
    return Subject(model, inputs, target, optimizer=made, **settings_of)


def trained(steps=300, **changes):
    s = subject(**changes)
    s.train(s.model, s.optimizer, None, s.clip_norm, steps=steps)
    return s


class Detached(nn.Module):
    def forward(self, x):
        return x.detach()


def held(finding):
    """Does the finding's prediction hold, and does it not hold already?"""
    experiment = finding.next_experiment
    without, measured = experiment.run()
    return experiment.low <= measured <= experiment.high and not experiment.low <= without <= experiment.high


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


@pytest.mark.parametrize(("level", "kind"), [(-6, "too-small"), (-4.2, "too-small"), (-0.5, "too-large"), (2, "too-large")])
def test_the_factor_of_the_rate_leads_to_a_usual_ratio(level, kind):
    assert -3.5 <= level + math.log10(rate_factor(level, kind)) <= -1.5


@settings(max_examples=50, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=12), st.booleans(), st.integers(0, 5))
def test_dead_channels_are_counted_wherever_the_channels_stand(dead, last, seed):
    g = torch.Generator().manual_seed(seed)
    output = torch.rand(2, len(dead), 8, 8, generator=g) + 1e-3
    output[:, torch.tensor(dead)] = 0
    output = output.movedim(1, -1) if last else output
    count, whole = dead_share(output, channels_last=last)
    assert (int(count), whole) == (sum(dead), len(dead))


def test_a_channel_of_few_places_is_not_judged():
    assert dead_share(torch.zeros(2, 8, 1, 1)) is None  # squeeze and excitation
    assert dead_share(torch.zeros(64)) is None


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


def scheduled(curve, s=None, last=0):
    s = s or subject()
    s.scheduler = torch.optim.lr_scheduler.LambdaLR(s.optimizer, curve)
    for _ in range(last):
        s.optimizer.step()
        s.scheduler.step()
    return s


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


# --- clipping, epsilon, size of the steps -------------------------------------------------------------------------------


def sgd(p):
    return torch.optim.SGD(p, lr=0.2, momentum=0.9)


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


def test_a_rate_that_throws_the_weights_about_fails_and_the_predicted_one_trains():
    found = update_ratio(subject(network(norm=False), lambda p: torch.optim.AdamW(p, lr=3.0)))
    assert (found.verdict, found.evidence["kind"]) == ("fail", "too-large")
    assert held(found)


def test_small_steps_are_right_late_and_in_a_warm_up():
    done = trained()
    for group in done.optimizer.param_groups:
        group["lr"] = 1e-8
    assert update_ratio(done).verdict == "pass"
    s = scheduled(lambda t: (t + 1) * 1e-6)
    assert update_ratio(s).verdict == "note"


# --- layers and options -------------------------------------------------------------------------------------------------


def test_a_dead_layer_fails_and_comes_alive_when_it_is_initialised_anew():
    model = network()
    nn.init.constant_(model[4].bias, -20.0)
    found = dead_channels(subject(model))
    assert (found.verdict, found.evidence["worst_layer"], found.evidence["worst_share"]) == ("fail", "5", 1.0)
    assert found.evidence["share"] == 0.5
    assert held(found)


def test_dead_channels_of_a_minority_or_in_a_trained_network_are_no_alarm():
    model = network()
    with torch.no_grad():
        model[1].bias[:3] = -20.0
    found = dead_channels(subject(model))
    assert found.verdict == "pass"
    assert found.evidence["worst_share"] == 3 / 16
    done = trained()
    done.model = nn.Sequential(*done.model, nn.ReLU())  # of the output itself: another check's matter
    assert "6" not in dead_channels(done).evidence["worst_layer"]


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("filled", [0.003, 0.1])
def test_fresh_networks_on_sparse_maps_are_left_alone(norm, filled):
    for seed in range(5):
        s = subject(network(seed, norm), seed=seed)
        g = torch.Generator().manual_seed(seed)
        s.inputs = (torch.rand(2, 6, 12, 12, generator=g) < filled) * torch.randint(1, 30, (2, 6, 12, 12), generator=g).float()
        assert not dead_channels(s).alarming
    s.inputs = torch.zeros(2, 6, 12, 12)
    assert dead_channels(s).verdict == "not-measurable"


def test_a_prior_in_front_of_a_norm_is_told_and_works_behind_it():
    last = nn.Conv2d(16, 4, 1)
    nn.init.constant_(last.bias, -3.0)
    model = nn.Sequential(network(last=last), nn.BatchNorm2d(4))
    found = silent_option(subject(model))
    assert (found.verdict, found.evidence["kind"]) == ("warn", "bias-before-norm")
    assert held(found)
    exec(found.fix, {"model": model, "nn": nn})
    assert silent_option(subject(model)).verdict == "pass"


def test_a_usual_bias_before_a_norm_and_a_prior_without_one_are_no_alarm():
    assert silent_option(subject(nn.Sequential(network(), nn.BatchNorm2d(4)))).verdict == "pass"
    last = nn.Conv2d(16, 4, 1)
    nn.init.constant_(last.bias, -4.6)
    assert silent_option(subject(network(last=last))).verdict == "pass"


def test_a_scheduler_of_another_optimiser_is_told():
    s = subject()
    s.scheduler = torch.optim.lr_scheduler.LambdaLR(torch.optim.SGD(s.model.parameters(), lr=0.5), lambda t: 0.1)
    found = silent_option(s)
    assert (found.verdict, found.evidence["kind"]) == ("warn", "foreign-scheduler")
    assert held(found)


def test_an_empty_group_with_a_rate_of_its_own_is_a_warning_and_one_without_a_note():
    for rate, verdict in ((0.1, "warn"), (3e-3, "note")):
        s = subject()
        s.optimizer.add_param_group({"params": [], "lr": rate})
        found = silent_option(s)
        assert (found.verdict, found.evidence["kind"]) == (verdict, "empty-group")


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (nn.BCEWithLogitsLoss(pos_weight=torch.tensor(1.0)), "pos_weight = 1"),
        (OccupancyLoss(height_weights=(2.0, 2.0, 2.0, 2.0)), "height_weights all equal to 2"),
        (OccupancyLoss(focal=1.0, focal_gamma=0.0), "focal_gamma = 0"),
    ],
)
def test_settings_at_their_neutral_value_are_a_note(loss, says):
    found = silent_option(subject(loss=loss))
    assert found.verdict == "note"
    assert says in found.title


def test_settings_that_count_are_not_noted():
    for loss in (
        nn.BCEWithLogitsLoss(pos_weight=torch.tensor(3.0)),
        OccupancyLoss(height_weights=(1.0, 2.0, 1.0, 1.0)),
        OccupancyLoss(),
    ):
        assert silent_option(subject(loss=loss)).verdict == "pass"
    assert silent_option(subject(clip_norm=1e4)).evidence["kind"] == "clip-norm"
    assert silent_option(subject(clip_norm=1.0)).verdict == "pass"
    model = nn.Sequential(network(), nn.Dropout(0.0))
    assert "dropout" in silent_option(subject(model)).title


# --- all of them --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("make", [sgd, lambda p: torch.optim.AdamW(p, lr=3e-3), lambda p: torch.optim.Adam(p, lr=1e-3)])
@pytest.mark.parametrize("steps", [0, 100])
def test_healthy_training_raises_no_alarm(norm, make, steps):
    s = trained(model=network(norm=norm), optimizer=make, clip_norm=1.0, steps=steps)
    assert [f.id for check in (*STRUCTURE, *PROBES) if (f := check(s)).alarming] == []


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
