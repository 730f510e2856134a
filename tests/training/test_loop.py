"""The loop: what a step records is what happened."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from occlab import OcclabError, OccupancyUNet
from occlab.training import Batches, batch_statistics, make_fabric, predict, reestimate_statistics, training_steps
from occlab.training.optimizer import learning_rate, make_optimizer, parameter_groups


def take(config, frames, n=3, **arguments):
    torch.manual_seed(0)
    model = OccupancyUNet(config.model)
    steps = []
    for step in training_steps(model, Batches(frames, config), config, **arguments):
        steps.append(step)
        if len(steps) == n:
            break
    return model, steps


def test_three_steps_of_it(frames, config):
    _, steps = take(config, frames)
    assert [s.step for s in steps] == [1, 2, 3]
    for s in steps:
        assert s.loss == pytest.approx(s.terms["bce"] + 0.5 * s.terms["dice"], rel=1e-5)
        assert s.clip_coefficient == pytest.approx(min(1, 0.1 / s.grad_norm), rel=1e-4)
        assert 0 <= s.iou <= 1
        assert s.seconds > 0


def test_the_first_loss_is_the_losss_own(frames, config):
    torch.manual_seed(0)
    model = OccupancyUNet(config.model).train()
    batch = Batches(frames, config)[0]
    expected = config.loss(model(batch.features), batch.target).item()
    assert take(config, frames, 1)[1][0].loss == pytest.approx(expected, rel=1e-5)


def test_an_adamw_step_by_hand(frames, config):
    """First AdamW step: decay, then a step of lr in the sign of each gradient, whatever the clipping."""
    config = replace(config, learning_rate=1e-3)
    torch.manual_seed(0)
    before = OccupancyUNet(config.model)
    after, steps = take(config, frames, 1)
    changes = [
        (a - b + 1e-3 * 0.01 * b).detach().flatten() for a, b in zip(after.parameters(), before.parameters(), strict=True)
    ]
    moved = torch.cat(changes).abs()
    assert moved.max() <= 1e-3 * 1.001
    assert (moved > 0.9e-3).float().mean() > 0.5
    squared = sum(((a - b).detach() ** 2).sum() for a, b in zip(after.parameters(), before.parameters(), strict=True))
    size = sum((b.detach() ** 2).sum() for b in before.parameters())
    assert steps[0].update_ratio == pytest.approx(float((squared / size).sqrt()), rel=1e-4)


def test_no_clipping_is_no_clipping(frames, config):
    _, steps = take(replace(config, clip_norm=None), frames)
    assert {s.clip_coefficient for s in steps} == {1.0}


def test_warmup_rises_from_a_third(config):
    config = replace(config, warmup_steps=10)
    rates = [learning_rate(config, i) / config.learning_rate for i in range(15)]
    assert rates[0] == pytest.approx(1 / 3)
    assert rates[10:] == [1.0] * 5
    assert rates == sorted(rates)
    assert rates[5] == pytest.approx(2 / 3)


def test_custom_keys_are_mmcvs(config, frames):
    config = replace(config, custom_keys={"refine": {"lr_mult": 10}, "refine.0": {"lr_mult": 2, "decay_mult": 0}})
    model = OccupancyUNet(config.model)
    names = {id(p): name for name, p in model.named_parameters()}
    groups = parameter_groups(model, config)
    by_name = {names[id(p)]: (g["lr_mult"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert by_name["refine.0.weight"] == (2, 0)  # the longer key wins
    assert by_name["refine.3.weight"] == (10, 0.01)
    assert by_name["stem.weight"] == (1, 0.01)
    assert len(by_name) == len(names)
    _, steps = take(config, frames, 1)
    assert steps[0].learning_rate == config.learning_rate


def test_a_multiplied_rate_moves_its_layer_further(config, frames):
    config = replace(config, custom_keys={"stem": {"lr_mult": 10}}, weight_decay=0)
    torch.manual_seed(0)
    before = OccupancyUNet(config.model)
    after, _ = take(config, frames, 1)
    change = lambda name: (after.get_parameter(name) - before.get_parameter(name)).abs().max().item()  # noqa: E731
    assert change("stem.weight") == pytest.approx(10 * change("refine.0.weight"), rel=0.01)


def test_a_key_that_matches_nothing_is_refused(config):
    with pytest.raises(OcclabError, match="match no parameter"):
        make_optimizer(OccupancyUNet(config.model), replace(config, custom_keys={"backbone": {"lr_mult": 0.1}}))


def test_a_loss_that_is_not_finite_stops_the_run(config, frames):
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x):
            return self.weight * float("nan") * x[:, :32]

    with pytest.raises(OcclabError, match="step 1: the loss is nan"):
        next(training_steps(Broken(), Batches(frames, config), config))


def test_steps_can_be_left_and_taken_up_again(frames, config):
    whole_model, whole = take(config, frames, 6)
    torch.manual_seed(0)
    model = OccupancyUNet(config.model)
    optimizer = make_optimizer(model, config)
    losses = []
    for start, stop in ((0, 2), (2, 6)):
        for step in training_steps(model, Batches(frames, config), config, optimizer=optimizer, start=start):
            losses.append(step.loss)
            if step.step == stop:
                break
    assert losses == [s.loss for s in whole]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), whole_model.parameters(), strict=True))


def test_batch_statistics_leave_no_trace(frames, config):
    model, _ = take(config, frames)
    model.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fabric, batch = make_fabric(config), Batches(frames, config).frame(0)
    by_batch = predict(model, batch, fabric, running_statistics=False)
    by_running = predict(model, batch, fabric)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(m.training for m in model.modules())
    assert all(m.track_running_stats for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    assert not torch.allclose(by_batch, by_running)
    model.train()
    torch.testing.assert_close(torch.sigmoid(model(batch.features)), by_batch)


def test_batch_statistics_end_with_an_error_too():
    model = nn.Sequential(nn.BatchNorm2d(1)).eval()
    with pytest.raises(RuntimeError, match="stop"), batch_statistics(model):
        raise RuntimeError("stop")
    assert not model[0].training
    assert model[0].track_running_stats


def test_reestimated_statistics_are_the_mean_over_the_training_frames(frames, config):
    """The reference looks at what enters each BatchNorm, frame by frame."""
    model, _ = take(config, frames)
    fabric, batches = make_fabric(config), Batches(frames, config)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    seen = {m: [] for m in norms}
    hooks = [m.register_forward_pre_hook(lambda m, x: seen[m].append(x[0].detach().double())) for m in norms]
    for batch in batches:
        predict(model, batch, fabric, running_statistics=False)
    for hook in hooks:
        hook.remove()
    model.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with reestimate_statistics(model, batches, fabric):
        assert not model.training
        for m in norms:
            means, variances = ([f(x, (0, 2, 3)) for x in seen[m]] for f in (torch.mean, torch.var))
            torch.testing.assert_close(m.running_mean.double(), sum(means) / len(frames), rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(m.running_var.double(), sum(variances) / len(frames), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert {m.momentum for m in norms} == {config.model.bn_momentum}


def test_reestimated_statistics_predict_as_the_weights_do(frames, config):
    """After twelve steps the running averages still hold most of their first value; precise ones follow the weights."""
    model, _ = take(replace(config, learning_rate=1e-3), frames, 12)
    fabric, batches = make_fabric(config), Batches(frames, config)
    batch = batches.frame(0)
    by_batch = predict(model, batch, fabric, running_statistics=False)
    lagging = (predict(model, batch, fabric) - by_batch).abs().mean()
    with reestimate_statistics(model, batches, fabric):
        precise = (predict(model, batch, fabric) - by_batch).abs().mean()
    assert precise < lagging / 2


def test_statistics_come_back_after_an_error_too(frames, config):
    model, _ = take(config, frames, 1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    broken = [Batches(frames, config).frame(0), None]
    with pytest.raises(AttributeError), reestimate_statistics(model, broken, make_fabric(config)):
        pass
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert {m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {config.model.bn_momentum}
    assert model.training


def test_the_device_is_cuda_or_the_processor_and_never_mps(config, monkeypatch):
    monkeypatch.setattr("lightning_fabric.accelerators.mps.MPSAccelerator.is_available", lambda: True)
    assert make_fabric(config).device.type == ("cuda" if torch.cuda.is_available() else "cpu")
