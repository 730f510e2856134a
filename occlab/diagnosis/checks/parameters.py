"""Checks of which parameters training reaches, and of the learning rate that it has.

A structural part looks at one backward pass, the optimiser's groups and the schedule to come; after some steps on a copy, what
did not change by a bit is named. What is frozen on purpose, late in a schedule or early in a warm-up is as it should be.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.overrides import TorchFunctionMode

from ..copying import random_numbers_kept
from ..finding import Experiment, Finding, Verdict
from ..subject import Subject, trainable
from .verdicts import LATE, NO_RATE, learnt, least_loss, percent, scale_free

PART = 0.01
"""Share of the trainable parameters below which a part that does not train is a trifle, unless the last layer is in it.
Chosen here: a U-Net's auxiliary heads and position codes hold less."""
EXPERIMENT_STEPS = 20
LONG = 10
"""A schedule is looked at for ten times the probe's steps."""
OLD = 20
"""An optimiser that has made twenty times the probe's steps is past its warm-up. Chosen here."""
HEARD = 1e-4
"""Change of the output, over its spread, from which on it depends on a parameter: rounding is under 1e-5."""

_Trained = tuple[Subject, nn.Module, Optimizer | None]


# --- parameters that do not train ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stuck:
    """Parameters that do not train, by what keeps them; names."""

    sizes: Mapping[str, int]
    """Elements of every parameter that asks for a gradient."""
    asleep: int = 0
    """Elements that do not ask for one."""
    cut_off: Sequence[str] = ()
    """The output depends on them, and no gradient arrives."""
    unused: Sequence[str] = ()
    """No gradient arrives, and the output is not known to depend on them."""
    left_out: Sequence[str] = ()
    """Not in the optimiser."""
    unmoved: Sequence[str] = ()
    """Gradient, optimiser and rate are there, and not a bit changed."""
    chosen: bool = False
    """Is what the loss is given one output among others? Then parameters that it does not need belong to those."""


_KINDS: dict[str, tuple[str, str, str, str]] = {
    "cut_off": (
        "not-in-graph", "get no gradient although the output depends on them",
        "They stay as they were initialised, and the rest has to learn on top of random features.",
        "# remove the .detach(), .data, torch.no_grad() or NumPy round trip behind {first}",
    ),
    "left_out": (
        "not-in-optimizer", "are not in the optimiser",
        "Their gradients are computed and thrown away.",
        "optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)  # made after the last change of the model",
    ),
    "unmoved": (
        "unchanged-by-step", "do not change by one bit although they have gradients and a learning rate",
        "Something undoes the optimiser's step or keeps it from them.",
        "optimizer.step()  # then compare model.get_parameter({first!r}) with a clone made before it",
    ),
    "unused": (
        "not-in-graph", "get no gradient: nothing of them reaches the loss",
        "They are carried along and never used; a layer was forgotten in forward, or belongs to another output.",
        "# call {first} in forward, or delete it",
    ),
}  # fmt: skip


def stuck_finding(stuck: Stuck, last: str | None, experiments: Mapping[str, Experiment] | None = None) -> Finding:
    """``frozen-parameters``: the worst of what keeps parameters from training.

    Args:
        last: name of the last layer's weight, without which nothing is a trifle.
        experiments: by field of :class:`Stuck`.
    """
    id, whole = "frozen-parameters", sum(stuck.sizes.values())
    if not whole:
        return _nothing_trainable(stuck, (experiments or {}).get("asleep"))
    found: list[tuple[Verdict, str]] = []
    for part in _KINDS:
        names = getattr(stuck, part)
        if names:
            large = _share(stuck, names) >= PART or last in names
            mild: Verdict = "warn" if large and not stuck.chosen else "note"
            found.append((mild if part == "unused" else "fail" if large else "warn", part))
    evidence: dict[str, Any] = {"trainable": whole, "frozen_on_purpose": stuck.asleep / (whole + stuck.asleep)}
    if not found:
        share = evidence["frozen_on_purpose"]
        title = "Every parameter that asks for a gradient gets one and is trained."
        if share:
            title = (
                f"{percent(share)} of the parameters do not ask for a gradient (requires_grad=False); all others are trained."
            )
        return Finding(id, "note" if share else "pass", title, evidence)
    verdict, part = min(found, key=lambda pair: ("fail", "warn", "note").index(pair[0]))
    names = getattr(stuck, part)
    kind, says, why, fix = _KINDS[part]
    evidence |= {"kind": kind, "share": _share(stuck, names), "parameters": list(names[:20]), "count": len(names)}
    evidence |= {"cutoff": PART, "source": "TrainCheck; share chosen here"}
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    title = f"{percent(_share(stuck, names))} of the trainable parameters {says}: {shown}."
    if verdict == "note":
        return Finding(id, verdict, title, evidence, why)
    return Finding(id, verdict, title, evidence, why, fix.format(first=names[0]), (experiments or {}).get(part))


def _nothing_trainable(stuck: Stuck, experiment: Experiment | None) -> Finding:
    evidence = {"kind": "nothing-trainable", "trainable": 0, "frozen": stuck.asleep, "cutoff": 1, "source": "TrainCheck"}
    title = f"0 of {stuck.asleep:,} parameters ask for a gradient: nothing can be trained."
    why = "Without requires_grad no gradient is computed, and every step leaves the model as it is."
    return Finding("frozen-parameters", "fail", title, evidence, why, "model.requires_grad_(True)", experiment)


def _share(stuck: Stuck, names: Iterable[str]) -> float:
    return sum(stuck.sizes[name] for name in names) / sum(stuck.sizes.values())


def frozen_parameters(s: Subject) -> Finding:
    """Does a gradient arrive at every parameter that asks for one, and is each in the optimiser?"""
    named = dict(s.model.named_parameters())
    sizes = {name: p.numel() for name, p in named.items() if p.requires_grad}
    asleep = sum(p.numel() for p in named.values()) - sum(sizes.values())
    if not named:
        return Finding("frozen-parameters", "not-measurable", f"{s.name} has no parameters.")
    if not sizes:
        return stuck_finding(Stuck({}, asleep), None, {"asleep": _moves("Let all parameters ask for gradients", s, _awake)})
    if s.look.output_gradient is None:
        return Finding("frozen-parameters", "not-measurable", "No gradient comes out of the loss itself.")
    without = [name for name, gradient in s.look.gradients.items() if gradient is None]
    for _ in range(2 if without else 0):  # a layer may be skipped at random
        again = replace(s).look.gradients
        without = [name for name in without if again[name] is None]
    cut_off = _that_matter(s, without)
    left_out: list[str] = []
    if s.optimizer is not None:
        held = {id(p) for group in s.optimizer.param_groups for p in group["params"]}
        left_out = [name for name in sizes if id(named[name]) not in held and name not in without]
    unused = [name for name in without if name not in cut_off]
    experiments = {}
    if cut_off and (attached := _attached(s, cut_off)):
        experiments["cut_off"] = _moves("Let the gradient through", s, attached)
    if left_out:
        experiments["left_out"] = _moves("Hand the optimiser every parameter", s, _all_held)
    stuck = Stuck(sizes, asleep, cut_off, unused, left_out, chosen=s.forward is not None)
    return stuck_finding(stuck, last_weight(sizes, named), experiments)


def unchanged_parameters(s: Subject) -> Finding:
    """``frozen-parameters`` again, after steps: does what has a gradient, a rate and an optimiser change by a bit?"""
    id, probe = "frozen-parameters", s.own
    if len(probe.losses) < 3 or not math.isfinite(probe.end):
        return Finding(id, "not-measurable", "The loss did not stay finite for some steps.")
    before, after = dict(s.model.named_parameters()), dict(probe.model.named_parameters())
    names = {p: name for name, p in after.items() if p.requires_grad}
    rates = [max(column) for column in zip(*probe.rates, strict=True)]
    stuck = [
        names[p]
        for group, rate in zip(probe.optimizer.param_groups, rates, strict=True)
        for p in group["params"]
        if p in names and torch.equal(p, before[names[p]].to(p.device)) and _should_move(s, names[p], before[names[p]], rate)
    ]
    sizes = {name: p.numel() for p, name in names.items()}
    experiments = {"unmoved": _moves("Take AdamW at 1e-3", s, _fresh)} if stuck else {}
    asleep = sum(p.numel() for p in after.values()) - sum(sizes.values())
    return stuck_finding(Stuck(sizes, asleep, unmoved=stuck), last_weight(sizes, after), experiments)


def _should_move(s: Subject, name: str, weight: Tensor, rate: float) -> bool:
    """Would a step of this rate be seen in a weight?"""
    gradient, norm = s.look.gradients.get(name), s.own.norms[0]
    factor = 1.0 if s.clip_norm is None else min(1.0, s.clip_norm / (norm + 1e-6))
    return gradient is not None and would_show(weight, gradient * factor, rate, s.own.optimizer)


def would_show(weight: Tensor, gradient: Tensor, rate: float, optimizer: Optimizer) -> bool:
    """Is a step large enough for this precision to hold? Plain descent steps by rate times gradient, Adam by the rate, as far
    as gradients are above its epsilon."""
    size = gradient.abs()
    step = rate * (size / (size + float(optimizer.defaults.get("eps") or 0.0)) if scale_free(optimizer) else size)
    held = (step > 16 * torch.finfo(weight.dtype).eps * weight.detach().abs()) & (step > 1e-30)
    return bool(((gradient != 0) & held).any())


def last_weight(sizes: dict[str, int], named: dict[str, Tensor]) -> str | None:
    """The weight that is defined last."""
    return next((name for name in reversed(sizes) if named[name].dim() > 1), None)


def _that_matter(s: Subject, names: Sequence[str]) -> list[str]:
    """Those that the output depends on: noise on them, part by part, changes it."""

    def output(noisy: Sequence[str]) -> Tensor:
        twin = s.twin()
        parameters = dict(twin.named_parameters())
        with torch.no_grad(), random_numbers_kept():
            torch.manual_seed(0)
            for name in noisy:
                p = parameters[name]
                p.add_(torch.randn_like(p) * (p.abs().mean() + 0.1))
            torch.manual_seed(1)  # the same dropout with and without noise
            return s.run(twin)

    if not names:
        return []
    before = output(())
    spread = float(before.float().std(correction=0)) + 1e-12
    moved = lambda noisy: float((output(noisy) - before).float().abs().max()) > HEARD * spread  # noqa: E731
    if not moved(names):
        return []
    columns = zip(*(name.split(".") for name in names), strict=False)
    same = next((i for i, column in enumerate(columns) if len(set(column)) > 1), 0)
    parts: dict[str, list[str]] = {}
    for name in names:
        parts.setdefault(".".join(name.split(".")[: same + 1]), []).append(name)
    return [name for part in parts.values() if len(parts) == 1 or moved(part) for name in part]


class _Attached(TorchFunctionMode):
    """Lets gradients through where a forward pass cuts them off."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in (Tensor.detach, torch.detach, Tensor.data.__get__):
            return args[0]
        return None if function is torch._C._set_grad_enabled else function(*args, **(kwargs or {}))


def _attached(s: Subject, names: Sequence[str]) -> Callable[[Subject], _Trained] | None:
    """The given step with gradients let through; None where they are cut off by other means."""

    def forward(model: nn.Module, inputs: Any) -> Any:
        with _Attached():
            return s.forward(model, inputs) if s.forward else model(inputs)

    attached = replace(s, forward=forward)
    reached = attached.look.gradients
    return (lambda _: (attached, *attached.copies()[:2])) if all(reached[name] is not None for name in names) else None


def _moves(change: str, s: Subject, make: Callable[[Subject], _Trained]) -> Experiment:
    """How many parameters 20 steps change, as things are and on what ``make`` gives."""

    def share(subject: Subject, model: nn.Module, optimizer: Optimizer | None) -> float:
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        optimizer = optimizer or torch.optim.AdamW(trainable(model), lr=1e-3)
        subject.train(model, optimizer, clip_norm=s.clip_norm, steps=EXPERIMENT_STEPS)
        moved = sum(p.numel() for name, p in model.named_parameters() if not torch.equal(p, before[name]))
        return moved / sum(p.numel() for p in before.values())

    sizes = [(p.numel(), p.requires_grad) for p in s.model.parameters()]
    most = sum(size for size, asks in sizes if asks) / sum(size for size, _ in sizes) or 1.0
    quantity = f"share of the parameters that {EXPERIMENT_STEPS} steps change"
    return Experiment(change, quantity, 0.98 * most, 1.0, lambda: (share(s, *s.copies()[:2]), share(*make(s))))


def _awake(s: Subject) -> _Trained:
    return s, s.twin().requires_grad_(True), None


def _fresh(s: Subject) -> _Trained:
    return s, s.twin(), None


def _all_held(s: Subject) -> _Trained:
    model, optimizer, _ = s.copies()
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    optimizer.add_param_group({"params": [p for p in model.parameters() if p.requires_grad and id(p) not in held]})
    return s, model, optimizer


# --- the learning rate --------------------------------------------------------------------------------------------------


def schedule(s: Subject) -> Finding:
    """Is there a learning rate, and does it last?"""
    if s.optimizer is None:
        return Finding("schedule", "not-measurable", "No optimiser was given.")
    planned = _planned(s)
    initial = max(float(group.get("initial_lr", group["lr"])) for group in s.optimizer.param_groups)
    rates = [max(step) for step in planned]
    evidence: dict[str, Any] = {"rate": rates[0], "initial_rate": initial, "highest_to_come": max(rates)}
    evidence |= {"steps_looked_ahead": len(rates) - 1, "cutoff": LATE, "source": "Tuning Playbook, Karpathy's recipe"}
    zero = _without_a_rate(s, planned)
    if zero and not (_scheduled(s) and (s.scheduler is None or learnt(s, s.look.loss, 0.0))):
        kind = "never-warms-up" if _scheduled(s) else "rate-zero"
        title = f"The learning rate of {100 * zero:.3g} % of the parameters is {rates[0]:g} and stays under {NO_RATE:g}."
        verdict: Verdict = "fail" if zero > 0.5 else "warn"
        return _schedule_finding(s, verdict, kind, title, evidence | {"share": zero}, "Nothing is learnt at a rate of 0.")
    falls = next((t for t in range(min(s.steps, len(rates))) if rates[t] < LATE * rates[0]), None)
    if falls is not None and rates[0] >= 0.5 * initial and not learnt(s, s.look.loss):
        title = f"The learning rate falls from {rates[0]:g} to under 1 % of it within {falls} steps."
        if len(rates) - 1 < LONG * s.steps or max(rates[falls:]) > 0.1 * rates[0]:
            return Finding("schedule", "note", title, evidence, "Is scheduler.step() called as often as it was made for?")
        why = "Training stops before it began. A schedule counted in epochs is perhaps stepped at every batch."
        return _schedule_finding(s, "fail", "decays-too-early", title, evidence, why)
    late = initial > 0 and rates[0] < LATE * initial
    if late and not learnt(s, s.look.loss, 0.0) and max(rates) < 10 * rates[0]:
        title = f"The learning rate is {rates[0]:g}, under 1 % of its initial {initial:g}, and the loss is {s.look.loss:.4g}."
        if s.scheduler is None and not _steps_made(s.optimizer) > OLD * s.steps:
            return Finding("schedule", "note", title, evidence, "A warm-up, or the end: scheduler= would tell.")
        why = f"It decayed before the network was better than one constant, {s.floors.best_constant:.4g}."
        return _schedule_finding(s, "warn", "decayed-before-it-learnt", title, evidence, why)
    if len(rates) - 1 >= LONG * s.steps and rates[-1] == max(rates) > rates[-2] and rates[-1] < 0.99 * initial:
        title = f"After {len(rates) - 1} steps the learning rate still warms up: {rates[-1]:.2g} of {initial:g}."
        return Finding("schedule", "note", title, evidence)
    return Finding(
        "schedule", "pass", f"The learning rate is {rates[0]:g}, at most {max(rates):g} in the steps ahead.", evidence
    )


def _schedule_finding(s: Subject, verdict: Verdict, kind: str, title: str, evidence: dict[str, Any], why: str) -> Finding:
    start = s.look.loss
    high = start - 0.1 * abs(start - least_loss(s))
    experiment = Experiment(
        "Hold the rate at 1e-3, with AdamW", f"loss after {s.steps} steps", least_loss(s), high,
        lambda: (s.own.end, s.reference.end),
    )  # fmt: skip
    fix = "for group in optimizer.param_groups:\n    group['lr'] = 1e-3"
    if s.scheduler is not None:
        fix = "scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=total_steps)  # stepped once a batch"
    return Finding("schedule", verdict, title, evidence | {"kind": kind}, why, fix, experiment)


def _planned(s: Subject) -> list[list[float]]:
    """Rates of the groups, now and in the steps to come, as far as the scheduler says without training."""
    _, optimizer, scheduler = s.copies()
    now = lambda: [float(group["lr"]) for group in optimizer.param_groups]  # noqa: E731
    planned = [now()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a scheduler that is stepped without an optimiser
        for _ in range(LONG * s.steps if scheduler is not None else 0):
            try:
                scheduler.step()
            except (TypeError, ValueError, RuntimeError):  # asks for a metric, or is at its end
                break
            planned.append(now())
    return planned


def _without_a_rate(s: Subject, planned: list[list[float]]) -> float:
    """Share of the trainable parameters in groups that have no rate, now or in the steps to come."""
    mine = {id(p): p.numel() for p in s.model.parameters() if p.requires_grad}
    least = NO_RATE if s.scheduler is not None else 0.0
    groups = zip(s.optimizer.param_groups, zip(*planned, strict=True), strict=True)
    zero = sum(mine.get(id(p), 0) for group, rates in groups if not max(rates) > least for p in group["params"])
    return zero / max(1, sum(mine.values()))


def _scheduled(s: Subject) -> bool:
    """Is the rate a scheduler's, the given one's or another's?"""
    return s.scheduler is not None or any(float(group.get("initial_lr", 0)) > 0 for group in s.optimizer.param_groups)


def _steps_made(optimizer: Optimizer) -> float:
    return max((float(state.get("step", 0)) for state in optimizer.state.values()), default=0.0)
