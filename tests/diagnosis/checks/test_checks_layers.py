"""Channels that are never on, and options that change nothing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from step_task import held, network, subject, trained
from torch import nn

from occlab import OccupancyLoss
from occlab.diagnosis.checks.layers import dead_channels, silent_option
from occlab.diagnosis.checks.verdicts import dead_share


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
