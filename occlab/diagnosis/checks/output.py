"""Checks of the output head: how far it reaches, whether anything comes back through it, and where it starts.

None of them trains: one forward and backward pass, and a few passes with the last layer pushed.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..finding import Experiment, Finding
from ..subject import Subject, sums_to_one

PUSHES = (-1e3, -20.0, 20.0, 1e3)
"""Added to what the last layer with parameters returns. The large ones reach through a temperature or a scale."""
REACH = 0.05
"""A head must be able to say p under 0.05 and over 0.95; a healthy one reaches 0 and 1 to the last bit."""
HEARD = 1e-4
"""Gradient of the output by the last layer's, above which it answers: 1 in a bare head, under 1e-6 in front of a norm."""
WRONG = 0.25
"""A cell whose probability is further than this from its target should be moved by the loss."""
DEAD_WARN, DEAD_FAIL = 0.5, 0.95
"""Share of the wrong cells through which no gradient comes back (SageMaker Debugger's DeadRelu warns at 50 %)."""
START_WARN, START_FAIL = 1.5, 3.0
"""First loss over the loss of p = 1/2. Kaiming's and Xavier's initial weights stay under 1.2."""
CEILING_WARN, CEILING_FAIL = 0.2, 0.05
"""Share of the best constant's loss that a perfect prediction saves."""
PROBE_STEPS = 20
FAST = 1e-2
"""Learning rate of AdamW for them."""
_FREE = f"Give the loss what the last convolution returns, started at the base rate, and train {PROBE_STEPS} steps"

KINDS = {
    "relu-before-sigmoid": ((0.5, 1.0), "a ReLU (or softplus) stands between the last layer and the sigmoid"),
    "double-sigmoid": ((0.5, 0.731), "a sigmoid is applied twice"),
    "relu-double-sigmoid": ((0.622, 0.731), "a ReLU and two sigmoids stand behind the last layer"),
}
"""Name: range of the probabilities, and what gives it: sigmoid(0) = 0.5, sigmoid(0.5) = 0.622, sigmoid(1) = 0.731."""


@dataclass(frozen=True)
class Reach:
    """Lowest and highest probability over all pushes, in the channel that goes least far."""

    lowest: float
    highest: float
    moved: float
    """How far the mean probability went. 0: what stands behind subtracts the push."""


def bounded_output(s: Subject) -> Finding:
    """Push the last layer up and down: does every probability follow?"""
    if s.takes == "probabilities" and not s.by_class and sums_to_one(s.output) and not sums_to_one(s.target):
        return _one_for_all(s)
    reach = _reach(s)
    if reach is None or reach.moved < 1e-3:
        why = "no layer with parameters was called" if reach is None else "a push of the last layer is subtracted behind it"
        return Finding("bounded-output", "not-measurable", f"The reach of the output was not measured: {why}.")
    low, high = reach.lowest, reach.highest
    evidence: dict[str, Any] = {
        "lowest": low,
        "highest": high,
        "cutoff": [REACH, 1 - REACH],
        "source": "push of the last layer",
    }
    if low <= REACH and high >= 1 - REACH:
        return Finding("bounded-output", "pass", f"Pushed, the output reaches from {low:.3f} to {high:.3f}.", evidence)
    kind = next((k for k, ((a, b), _) in KINDS.items() if abs(low - a) < 0.01 and abs(high - b) < 0.01), "clamped")
    what = KINDS[kind][1] if kind in KINDS else "a clamp or a squashing function stands behind the last layer"
    evidence = {"kind": kind, **evidence}
    title = f"The output cannot leave [{low:.3f}, {high:.3f}], however hard its last layer is pushed: {what}."
    if s.by_class:
        why = "No weight in the network can make it certain of a class, or rule one out."
        fix = "logits = self.head(x)  # (B, classes, ...), with nothing behind it\nloss = F.cross_entropy(logits, target)"
        return Finding("bounded-output", "fail", title, evidence, why, fix)
    floor, perfect = _lowest_constant(s, low, high), s.of_probabilities(s.target.float().clamp(low, high))
    evidence |= {"floor": floor, "floor_with_perfect_answers": perfect, "floor_of_a_free_output": s.floors.perfect}
    what = _WHY if low > REACH else "Some cells are occupied, and no weight in the network can make it say so."
    why = f"{what} The same answer everywhere costs at least {floor:.4g}, and even perfect ones cost {perfect:.4g}."
    experiment = Experiment(
        _FREE,
        "loss on this batch",
        s.floors.perfect,
        0.99 * floor,
        lambda: _freed(s),
    )
    return Finding("bounded-output", "fail", title, evidence, why, _FIX, experiment)


def _one_for_all(s: Subject) -> Finding:
    most = float(s.target.double().flatten(2).sum(1).max()) if s.target.dim() > 2 else math.nan
    evidence = {
        "kind": "softmax",
        "sum_over_channels": 1.0,
        "most_in_one_column": most,
        "source": "sum of the output's channels",
    }
    title = "The channels of a cell share one probability, as behind a softmax: they sum to 1."
    why = f"Occupied heights are no classes: up to {most:.0f} of a column are occupied at once, and an empty column has none."
    fix = "p = torch.sigmoid(logits)  # each height by itself; or F.binary_cross_entropy_with_logits(logits, target)"
    experiment = Experiment(
        _FREE,
        "loss on this batch",
        s.floors.perfect,
        s.look.loss,
        lambda: _freed(s),
    )
    return Finding("bounded-output", "fail", title, evidence, why, fix, experiment)


_WHY = "Most cells are empty, and no weight in the network can make it say so."
_FIX = """# The head's last layer is a bare convolution; the loss applies the sigmoid:
self.head = nn.Sequential(..., nn.Conv2d(channels, heights, 1))  # no BatchNorm, ReLU or sigmoid behind it
loss = F.binary_cross_entropy_with_logits(self.head(x), target)"""


def dead_head(s: Subject) -> Finding:
    """Of the cells that are wrong, how many send no gradient into the last layer?"""
    if s.by_class:
        return Finding("dead-head", "not-measurable", "Measured on occupancy, not on classes.")
    with _last_output(s.twin(), s) as (output, kept):
        value = s.value(output) if kept is not None else None
    if value is None or not value.requires_grad or kept.numel() != s.target.numel():
        return Finding("dead-head", "not-measurable", "The last layer with parameters has another shape than the target.")
    (gradient,) = torch.autograd.grad(value, [kept], allow_unused=True)
    wrong = ((s.p(output) - s.target).abs() > WRONG) & s.counted
    if gradient is None or not bool(wrong.any()):
        return Finding(
            "dead-head", "not-measurable", "No cell is far from its target." if gradient is not None else "No gradient."
        )
    share = float((gradient.reshape(s.target.shape)[wrong] == 0).double().mean())
    verdict = "fail" if share > DEAD_FAIL else "warn" if share > DEAD_WARN else "pass"
    evidence = {
        "share": share,
        "wrong_cells": int(wrong.sum()),
        "cutoff": [DEAD_WARN, DEAD_FAIL],
        "source": "SageMaker DeadRelu",
    }
    title = f"{100 * share:.0f} % of the wrong cells send no gradient back into the last layer."
    if verdict == "pass":
        return Finding("dead-head", verdict, title, evidence)
    why = "What is cut off there cannot be corrected: behind a ReLU at 0, or a sigmoid that has rounded to 0 or 1."
    fix = f"# return what {_spelt(s)} returns, and nothing behind it\nloss = F.binary_cross_entropy_with_logits(logits, target)"
    experiment = Experiment(
        _FREE,
        "loss on this batch",
        s.floors.perfect,
        min(s.look.loss, s.floors.half),
        lambda: _freed(s),
    )
    return Finding("dead-head", verdict, title, evidence, why, fix, experiment)


def output_prior(s: Subject) -> Finding:
    """Is the mean probability anywhere near the share of occupied cells?"""
    if s.by_class or not math.isfinite(s.rate) or s.rate <= 0:
        return Finding("output-prior", "not-measurable", "Needs occupancy targets with something occupied.")
    mean = float(s.p(s.look.output)[s.counted].double().mean())
    cost, half = s.of_constant(mean), s.floors.half
    evidence = {"mean_p": mean, "rate": s.rate, "loss_of_mean_p": cost, "loss_of_half": half}
    evidence |= {"cutoff": [START_WARN, START_FAIL], "source": "RetinaNet's prior, arXiv 1708.02002"}
    title = f"The output says {mean:.3f} on average where {s.rate:.4f} is occupied."
    ratio = cost / half if half > 0 else math.nan
    if ratio > START_WARN and s.look.loss > s.floors.best_constant:
        bias = math.log(s.rate / (1 - s.rate)) if s.rate < 1 else 10.0
        why = f"The wrong base rate alone costs {cost:.3g}, {ratio:.1f} times an answer of 1/2; the first steps only undo it."
        fix = f"nn.init.constant_({_spelt(s)}.bias, {bias:.2f})  # log(rate / (1 - rate))"
        experiment = Experiment(
            f"Start the output at the base rate (bias {bias:.2f})", "first loss", 0.0, 1.2 * min(half, s.of_constant(s.rate)),
            lambda: (s.look.loss, _shifted(s, mean)),
        )  # fmt: skip
        verdict = "fail" if ratio > START_FAIL else "warn"
        return Finding("output-prior", verdict, title, evidence, why, fix, experiment)
    far = not 1 / 3 < mean / s.rate < 3 and s.look.loss > s.floors.best_constant
    return Finding("output-prior", "note" if far else "pass", title, evidence)


def initial_loss(s: Subject) -> Finding:
    """Does the loss start above what knowing nothing costs?"""
    if s.by_class:
        return Finding("initial-loss", "not-measurable", "Measured on occupancy, not on classes.")
    mean = float(s.p(s.look.output)[s.counted].double().mean())
    expected = max(s.floors.half, s.of_constant(mean))
    ratio = s.look.loss / expected if expected > 0 else math.nan
    spread = float(s.look.output.double().std(correction=0))
    evidence = {"loss": s.look.loss, "of_its_mean_or_half": expected, "ratio": ratio, "output_std": spread}
    evidence |= {"cutoff": [START_WARN, START_FAIL], "source": "Karpathy's recipe: verify loss @ init"}
    title = f"The loss is {s.look.loss:.4g}, {ratio:.2f} times that of an answer that knows nothing ({expected:.4g})."
    if not ratio > START_WARN:
        return Finding("initial-loss", "pass", title, evidence)
    why = f"The output is certain and wrong: its spread is {spread:.3g}. The first steps only shrink the last layer."
    fix = f"last = {_spelt(s)}\nnn.init.normal_(last.weight, std=0.01)\nnn.init.zeros_(last.bias)"
    experiment = Experiment(
        "Shrink the output to a spread of 0.1 around p = 1/2",
        "first loss",
        0.0,
        1.1 * expected,
        lambda: (s.look.loss, _shrunk(s, spread)),
    )
    return Finding("initial-loss", "fail" if ratio > START_FAIL else "warn", title, evidence, why, fix, experiment)


def soft_target_floor(s: Subject) -> Finding:
    """How much of the loss could a perfect prediction save?"""
    if s.by_class:
        return Finding("soft-target-floor", "not-measurable", "Measured on occupancy, not on classes.")
    best, perfect = s.floors.best_constant, s.floors.perfect
    ceiling = (best - perfect) / best if best > 0 else math.nan
    evidence = {"perfect": perfect, "best_constant": best, "saved": ceiling, "cutoff": [CEILING_WARN, CEILING_FAIL]}
    evidence |= {"source": "entropy of soft targets"}
    title = f"A perfect prediction costs {perfect:.4g}; the same answer everywhere costs {best:.4g}."
    soft = bool(((s.target > 0) & (s.target < 1)).any())
    if not soft or not ceiling < CEILING_WARN:
        return Finding("soft-target-floor", "note" if soft else "pass", title, evidence)
    why = "The targets are so soft that the loss can hardly fall, however good the network; it says nothing about learning."
    fix = "target = (points_per_voxel > 0).float()  # hard targets; or 1 - exp(-0.3 n), steeper in n"
    experiment = Experiment(
        "Harden the targets at their median", "share of the best constant's loss that a perfect prediction saves", 0.5, 1.0,
        lambda: (ceiling, _hardened(s)),
    )  # fmt: skip
    return Finding("soft-target-floor", "fail" if ceiling < CEILING_FAIL else "warn", title, evidence, why, fix, experiment)


# --- pushing ------------------------------------------------------------------------------------------------------------


def last_layer(s: Subject, model: nn.Module) -> str | None:
    """Name of the last layer with parameters of its own that a forward pass calls."""
    order: list[str] = []
    layers = [(name, m) for name, m in model.named_modules() if any(True for _ in m.parameters(recurse=False))]
    handles = [m.register_forward_hook(lambda *_, name=name: order.append(name)) for name, m in layers]
    try:
        with torch.no_grad():
            s.run(model)
    finally:
        for handle in handles:
            handle.remove()
    return order[-1] if order else None


def _spelt(s: Subject) -> str:
    """That layer, as code."""
    name = last_layer(s, s.twin())
    return f"model.get_submodule({name!r})" if name else "model"


def _reach(s: Subject) -> Reach | None:
    twin = s.twin()
    name = last_layer(s, twin)
    if name is None:
        return None
    layer, found, means = twin.get_submodule(name), [], []
    classes = (0, s.output.shape[1] - 1) if s.by_class else (None,)
    for number in classes:
        lows, highs = [], []
        way = None if number is None else _towards(s, twin, layer, number)
        for push in PUSHES:
            with torch.no_grad(), _pushing(layer, push, way):
                p = s.p(s.run(twin)).double()
            if not bool(p.isfinite().all()):
                continue
            if number is not None:
                p = p[:, number : number + 1]
            flat = p.transpose(0, 1).flatten(1) if p.dim() > 1 else p[None]
            lows.append(flat.amin(1)), highs.append(flat.amax(1)), means.append(float(p.mean()))
        if not lows:
            return None
        found.append((float(torch.stack(lows).amin(0).amax()), float(torch.stack(highs).amax(0).amin())))
    return Reach(max(low for low, _ in found), min(high for _, high in found), max(means) - min(means))


@contextmanager
def _pushing(layer: nn.Module, push: float, way: Tensor | None) -> Iterator[None]:
    def hook(_: nn.Module, __: Any, output: Any) -> Any:
        if not isinstance(output, Tensor) or (way is not None and way.shape != output.shape):
            return output
        return output + (push if way is None else push * way)

    handle = layer.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _towards(s: Subject, model: nn.Module, layer: nn.Module, number: int) -> Tensor:
    """Which way a layer's output has to go for one class, against all others: 1, -1, or 0 where it does nothing. Found by
    gradients: what is a class to the loss may be a group of channels, a step of them, or the last dimension there."""
    kept: list[Tensor] = []
    handle = layer.register_forward_hook(lambda _, __, output: kept.append(output) if isinstance(output, Tensor) else None)
    try:
        with torch.enable_grad():
            output = s.run(model.requires_grad_(True)).float()
            others = output.sum() - output[:, number].sum()
            of_class, of_others = (
                torch.autograd.grad(v, [kept[-1]], retain_graph=True)[0] for v in (output[:, number].sum(), others)
            )
    finally:
        handle.remove()
    heard = lambda g: g.sign() * (g.abs() > HEARD)  # noqa: E731  # in front of a norm it is rounding
    return torch.where(heard(of_class) != 0, heard(of_class), -heard(of_others))


@contextmanager
def _last_output(model: nn.Module, s: Subject, layers: tuple[type, ...] | None = None) -> Iterator[tuple[Tensor, Any]]:
    """The model's output, and what its last layer with parameters returned on the way; with ``layers``, its last one of those
    kinds that returns as many numbers as the model."""
    kept: list[Tensor] = []

    def keep(_: nn.Module, __: Any, output: Any) -> Any:
        if not isinstance(output, Tensor):
            return output
        output = output.clone()  # before something works on it in place
        kept.append(output)
        return output.clone()

    wanted = [m for m in model.modules() if any(True for _ in m.parameters(recurse=False))]
    handles = [m.register_forward_hook(keep) for m in wanted if layers is None or isinstance(m, layers)]
    try:
        with torch.enable_grad():
            output = s.run(model)
            fitting = [k for k in kept if layers is None or k.numel() == output.numel()]
            yield output, fitting[-1] if fitting else None
    finally:
        for handle in handles:
            handle.remove()


# --- experiments --------------------------------------------------------------------------------------------------------


def _freed(s: Subject) -> tuple[float, float]:
    """The loss after some steps of AdamW, as things are and with the last convolution's output given to the loss, started at
    the base rate with a spread of 1 at most."""

    def bare(model: nn.Module, _: Any) -> Tensor:
        with _last_output(model, whole, (nn.modules.conv._ConvNd, nn.Linear)) as (output, kept):
            logits = output if kept is None else kept.reshape(output.shape)
        logits = start + (logits - mean) / max(1.0, spread)
        return logits if s.takes == "logits" else torch.sigmoid(logits)

    whole = Subject(s.model, s.inputs, s.target, s.loss, forward=s.forward)
    freed = Subject(s.model, s.inputs, s.target, s.loss, forward=bare)
    with _last_output(s.twin(), whole, (nn.modules.conv._ConvNd, nn.Linear)) as (output, kept):
        spread, mean = (float(v) for v in torch.std_mean((output if kept is None else kept).detach().double()))
    start = math.log(s.floors.best_p / (1 - s.floors.best_p))
    ends = []
    for subject in (whole, freed):
        model = subject.twin()
        ends.append(subject.train(model, torch.optim.AdamW(model.parameters(), lr=FAST), steps=PROBE_STEPS).end)
    return ends[0], ends[1]


def _lowest_constant(s: Subject, low: float, high: float) -> float:
    """The least loss of one answer everywhere within [low, high], among the ends and the best one of all."""
    best = min(max(s.floors.best_p, low), high)
    return min(s.of_constant(p) for p in {low, high, best})


def _shifted(s: Subject, mean: float) -> float:
    """The first loss with the output moved, in the logit, so that its mean is near the base rate."""
    p = s.p(s.look.output).double().clamp(1e-6, 1 - 1e-6)
    return s.of_probabilities(torch.sigmoid(torch.logit(p) + math.log(s.rate / (1 - s.rate)) - math.log(mean / (1 - mean))))


def _shrunk(s: Subject, spread: float) -> float:
    """The first loss with the output shrunk to a spread of 0.1 around 1/2."""
    logits = torch.logit(s.p(s.look.output).double().clamp(1e-12, 1 - 1e-12)) if s.takes == "probabilities" else s.look.output
    logits = logits.double()
    shrunk = (logits - logits.mean()) * (0.1 / max(spread, 0.1))
    return s.of_probabilities(torch.sigmoid(shrunk).reshape(s.target.shape))


def _hardened(s: Subject) -> float:
    target = (s.target > s.target[s.counted].median()).to(s.target.dtype)
    if not bool(target.any()):
        return 0.0
    hard = Subject(s.model, s.inputs, target, s.loss, forward=s.forward, mask=s.mask)
    return (hard.floors.best_constant - hard.floors.perfect) / hard.floors.best_constant


STRUCTURE = (bounded_output, dead_head, output_prior, initial_loss, soft_target_floor)
PROBES = ()
