"""The watch over a loop: nothing of the loop changes, and what is seen is what happened."""

import copy
import io
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from occlab import OccupancyLoss
from occlab.diagnosis.watch import watch
from occlab.errors import OcclabError


def batch(seed=0):
    g = torch.Generator().manual_seed(seed)
    target = (torch.rand(2, 4, 12, 12, generator=g) < 0.1).float()
    return torch.cat([torch.poisson(5 * target, generator=g), torch.randn(2, 2, 12, 12, generator=g)], 1), target


def network(seed=0):
    torch.manual_seed(seed)
    stage = lambda a, b: [nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(inplace=True)]  # noqa: E731
    return nn.Sequential(*stage(6, 16), *stage(16, 16), nn.Dropout(0.1), nn.Conv2d(16, 4, 1))


def adamw(p):
    return torch.optim.AdamW(p, lr=3e-3)


def train(model, optimizer, steps, w=None, clip_norm=None, loss=None, scheduler=None):
    inputs, target = batch()
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        value = (loss or OccupancyLoss())(model(inputs), target)
        value.backward()
        if clip_norm:
            nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.step()
        if scheduler:
            scheduler.step()
        losses.append(float(value.detach()))
        if w is not None:
            w.step(value)
    return losses


def watched(steps=60, model=None, make=adamw, every=10, clip_norm=None, **changes):
    """A watch after a loop, and the losses of the loop."""
    model = network() if model is None else model
    optimizer = make(model.parameters())
    with watch(model, optimizer, every=every, clip_norm=clip_norm) as w:
        losses = train(model, optimizer, steps, w, clip_norm, **changes)
    return w, losses


def no_hooks(model, optimizer):
    hooks = [optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks]
    hooks += [m._forward_hooks for m in model.modules()]
    hooks += [getattr(p, "_post_accumulate_grad_hooks", None) for p in model.parameters()]
    return not any(hooks)


@pytest.mark.parametrize("make", [adamw, lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)])
@pytest.mark.parametrize("every", [1, 7, 50])
def test_a_watched_loop_is_the_same_to_the_last_bit(make, every):
    first = network()
    second = copy.deepcopy(first)
    torch.manual_seed(1)
    plain = make(first.parameters())
    expected = train(first, plain, 25, clip_norm=0.2)
    drawn = torch.rand(3)
    torch.manual_seed(1)
    optimizer = make(second.parameters())
    with watch(second, optimizer, every=every, clip_norm=0.2) as w:
        losses = train(second, optimizer, 25, w, clip_norm=0.2)
    assert torch.equal(torch.rand(3), drawn)
    assert losses == expected
    assert w.losses == pytest.approx(expected)
    for (name, t), other in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(t, other), name
    for p, q in zip(first.parameters(), second.parameters(), strict=True):
        assert all(
            torch.equal(torch.as_tensor(a), torch.as_tensor(b))
            for a, b in zip(plain.state[p].values(), optimizer.state[q].values(), strict=True)
        )
        assert torch.equal(p.grad, q.grad)
    assert no_hooks(second, optimizer)


def test_hooks_are_gone_after_an_exception_and_the_losses_so_far_are_kept():
    model = network()
    optimizer = adamw(model.parameters())
    seen = []

    def interrupted():
        with watch(model, optimizer, every=3, clip_norm=1.0) as w:
            seen.append(w)
            train(model, optimizer, 3, w)
            assert not no_hooks(model, optimizer)  # the next step is to be looked at: all hooks are on
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    (w,) = seen
    assert no_hooks(model, optimizer)
    assert len(w.losses) == 3
    assert all(f.verdict in ("not-measurable", "pass") for f in w.report().findings)


def test_copies_and_checkpoints_of_a_watched_model_are_free_of_it():
    model = network()
    optimizer = adamw(model.parameters())
    with watch(model, optimizer, every=2) as w:
        train(model, optimizer, 2, w)
        twin = copy.deepcopy(model)
        torch.save(model, io.BytesIO())
        before = len(w.glances), w.steps
        train(twin, adamw(twin.parameters()), 4)
        assert (len(w.glances), w.steps) == before
        assert not w._seen.found


def test_what_is_seen_of_a_step_is_what_happened():
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False))
    nn.init.constant_(model[0].weight, 2.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, every=2, clip_norm=1.5) as w:
        for _ in range(4):
            optimizer.zero_grad()
            loss = 3 * model(torch.ones(1, 1, 4, 4)).mean()
            loss.backward()  # a gradient of 3, whatever the weight
            nn.utils.clip_grad_norm_(model.parameters(), 1.5)
            optimizer.step()
            w.step(loss)
    first, second = w.glances
    assert [first.step, second.step] == [0, 2]
    assert first.raw_norm == pytest.approx(3)
    assert first.norm == pytest.approx(1.5, rel=1e-5)
    assert first.ratios["0.weight"] == pytest.approx(0.1 * 1.5 / 2, rel=1e-5)
    assert second.ratios["0.weight"] == pytest.approx(0.15 / (2 - 2 * 0.15), rel=1e-5)
    assert w.losses == pytest.approx([6.0, 5.55, 5.1, 4.65], rel=1e-5)


def test_a_healthy_loop_gets_no_alarm_and_every_check_an_answer():
    w, losses = watched(make=lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), clip_norm=10.0)
    report = w.report()
    assert report.cause is None
    assert report.curves["loss"] == (list(range(60)), pytest.approx(losses))
    ids = {f.id for f in report.findings}
    assert {"non-finite", "diverged", "spikes", "frozen-parameters", "update-ratio", "clipping"} <= ids
    assert {"gradient-scale", "schedule", "dead-channels", "plateau-at-floor"} <= ids
    assert report["clipping"].verdict == "pass"
    assert watched()[0].report().cause is None  # AdamW


def test_parameters_outside_of_the_optimiser_or_of_the_graph_are_named():
    model = network()
    report = watched(model=model, make=lambda _: adamw(list(model.parameters())[:-2]))[0].report()
    assert report["frozen-parameters"].evidence["kind"] == "not-in-optimizer"
    assert report["frozen-parameters"].evidence["parameters"] == ["7.weight", "7.bias"]
    assert report.cause == "frozen-parameters"

    class Spare(nn.Module):
        def __init__(self):
            super().__init__()
            self.spare, self.net = nn.Conv2d(16, 16, 3), network()

        def forward(self, x):
            return self.net(x)

    found = watched(model=Spare())[0].report()["frozen-parameters"]
    assert (found.verdict, found.evidence["parameters"]) == ("warn", ["spare.weight", "spare.bias"])


def test_weights_put_back_after_each_step_are_seen():
    class Lazy(torch.optim.SGD):
        @torch.no_grad()
        def step(self, closure=None):
            first = self.param_groups[0]["params"][0]
            kept = first.clone()
            super().step(closure)
            first.copy_(kept)

    w, losses = watched(make=lambda p: Lazy(p, lr=0.1))
    assert w.steps == len(losses)  # and not twice as many, though the parent's step is told of too
    found = w.report()["frozen-parameters"]
    assert found.verdict == "fail"
    assert (found.evidence["kind"], found.evidence["parameters"]) == ("unchanged-by-step", ["0.weight"])


def test_a_rate_of_zero_and_one_that_decays_at_once_are_the_cause():
    report = watched(make=lambda p: torch.optim.AdamW(p, lr=0.0))[0].report()
    assert (report.cause, report["schedule"].evidence["kind"]) == ("schedule", "rate-zero")
    model = network()
    optimizer = adamw(model.parameters())
    for group in optimizer.param_groups:
        group["lr"] = 1e-4
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.3)
    with watch(model, optimizer, every=10) as w:
        train(model, optimizer, 60, w, scheduler=scheduler)
    report = w.report()
    assert (report.cause, report["schedule"].evidence["kind"]) == ("schedule", "decayed-before-it-learnt")


def test_clipping_is_seen_before_and_after_and_is_told_of_plain_descent_that_stands_still():
    w, _ = watched(make=lambda p: torch.optim.SGD(p, lr=1e-2), clip_norm=1e-3)
    found = w.report()["clipping"]
    assert found.verdict == "warn"
    assert found.evidence["clipped"] == 1
    assert found.evidence["coefficient"] == pytest.approx(1e-3 / found.evidence["p50"], rel=1e-2)
    assert watched(clip_norm=1e-3)[0].report()["clipping"].verdict == "note"  # AdamW
    fast, _ = watched(make=lambda p: torch.optim.SGD(p, lr=20.0), clip_norm=0.01)
    assert fast.report()["clipping"].verdict == "note"  # clipped at every step, and the loss falls


def test_under_a_loss_scale_only_the_share_of_clipped_steps_is_known():
    w, _ = watched(make=lambda p: torch.optim.SGD(p, lr=1e-2), clip_norm=1e-3)
    w.glances = [replace(g, raw_norm=math.nan) for g in w.glances]
    found = w.report()["clipping"]
    assert (found.evidence["clipped"], found.evidence["coefficient"]) == (1, None)
    assert found.verdict == "warn"


def test_steps_too_small_and_gradients_below_epsilon_are_told_of_a_loop_that_started_here():
    small = watched(make=lambda p: torch.optim.AdamW(p, lr=1e-7))[0].report()
    assert (small.cause, small["update-ratio"].evidence["kind"]) == ("update-ratio", "too-small")
    tiny = watched(loss=lambda o, t: 1e-9 * OccupancyLoss()(o, t))[0].report()
    assert tiny.cause == "gradient-scale"
    model = network()
    optimizer = adamw(model.parameters())
    train(model, optimizer, 5)
    for group in optimizer.param_groups:
        group["lr"] = 1e-7
    with watch(model, optimizer, every=10) as w:
        train(model, optimizer, 60, w)
    assert w.report().cause is None  # resumed: perhaps it is trained


def test_a_loss_that_is_no_number_or_rises_is_told():
    w, _ = watched(loss=lambda o, t: OccupancyLoss()(o, t) * math.nan, steps=30)
    assert w.report().cause == "non-finite"
    model = network()
    with watch(model, adamw(model.parameters())) as w:
        for value in [*torch.linspace(1.2, 0.1, 100).tolist(), *[0.9] * 100]:
            w.step(value)
    assert w.report().cause == "diverged"


def test_a_dead_layer_is_seen_in_training_mode_only():
    model = network()
    nn.init.constant_(model[4].bias, -50.0)
    report = watched(model=model, make=lambda p: torch.optim.SGD(p, lr=1e-4))[0].report()
    assert report["dead-channels"].evidence["worst_layer"] == "5"
    assert report["dead-channels"].verdict == "fail"
    model = network()
    optimizer = adamw(model.parameters())
    with watch(model, optimizer, every=1) as w:
        model.eval()
        train(model, optimizer, 3, w)
    assert w.report()["dead-channels"].verdict == "not-measurable"


def test_short_loops_are_not_judged_and_bad_arguments_are_named():
    report = watched(steps=5)[0].report()
    assert report.cause is None
    assert report["update-ratio"].verdict == "not-measurable"
    model = network()
    optimizer = adamw(model.parameters())
    for bad in ({"every": 0}, {"every": 1.5}, {"clip_norm": 0.0}):
        with pytest.raises(OcclabError, match="watch expects"):
            watch(model, optimizer, **bad)
    with pytest.raises(OcclabError, match=r"one number, got shape \(2,\)"):
        watch(model, optimizer).step(torch.zeros(2))
    with pytest.raises(OcclabError, match="one number, got str"):
        watch(model, optimizer).step("1.0")
