"""Checks of the loss: what it is divided by, what it counts, and which of its terms is heard.

The loss is asked about outputs of every kind, not only the network's: what a loss does there is its own, whatever the network
has learnt. None of them trains.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..finding import Experiment, Finding
from ..subject import ERRORS, Subject, terms_of

ADDS_UP = 0.02
"""A loss of twice the batch within 2 % of twice the loss is a sum over the frames; a mean stays where it is."""
A_CELL = 0.05
"""Loss over the number of cells, at random outputs, above which it is a sum over the cells as well: cross-entropy gives 0.8,
focal loss 0.1. A mean over some 10,000 cells gives 1e-4; a loss that closes over its mask or its number of positives also
doubles with the batch, and stays there."""
FIRST_STEP = 0.1
"""Length of SGD's first step over that of the weights: 100 times cs231n's 1e-3, after which little of them is left."""
CONSTANT = 1e-3
"""A loss that differs by less than this share between right, wrong and random outputs says nothing."""
OUTSIDE = 0.1
"""Mean size of the gradient on a cell outside the mask, over that on one inside: 0 where the mask is applied."""
HEARD = 0.5
"""Share of the occupied cells inside the mask through which some output must send a gradient."""
NOTE, WARN = (1e-3, 0.995), (1e-4, 0.9999)
"""Share of the output's gradient of a term that is hardly heard, or alone heard."""


# --- normalisation ------------------------------------------------------------------------------------------------------


def loss_normalisation(s: Subject) -> Finding:
    """Does the loss depend on the output, on its value, on the cells that count, and not on how many these are?"""
    if s.look.output_gradient is None:
        title = f"The loss is {s.look.loss:.4g}, whatever the output: no gradient leads from one to the other."
        fix = "p = torch.sigmoid(logits)  # no .detach(), .item(), round(), argmax() or comparison on the way to the loss"
        return _of_no_use(s, "not-differentiable", title, fix, {})
    outputs = _outputs(s)
    values, gradients = zip(*(_slope(s, output) for output in outputs.values()), strict=True)
    evidence: dict[str, Any] = {f"loss_of_{name}": value for name, value in zip(outputs, values, strict=True)}
    if not any(bool(g.any()) for g in (*gradients, s.look.output_gradient)):
        title = "The loss sends a gradient of exactly 0 back, whatever the output."
        return _of_no_use(
            s, "constant-weight", title, "loss = weight * term  # with a weight above 0, and a mask with cells in it", evidence
        )
    if _says_nothing(s, outputs["random"], list(values), gradients[0]):
        title = f"The loss is {values[0]:.4g} for right, wrong and random outputs alike, though its gradient is not 0."
        fix = "loss = loss_of(output, target)  # not over loss.detach(), nor over a norm that it falls with"
        return _of_no_use(s, "self-normalised", title, fix, evidence)
    return _mask(s, list(gradients)) or _sum(s, outputs["random"], values[0], evidence)


def _of_no_use(s: Subject, kind: str, title: str, fix: str, evidence: dict[str, Any]) -> Finding:
    """A loss whose value or gradient says nothing, against plain cross-entropy in its place."""
    plain = _cross_entropy(s)
    classes = s.output.shape[1] if s.by_class else 2
    now = float(plain(s.output, s.target))
    least = 0.0 if s.by_class else float(_entropy(s.target.float()[s.counted]).mean())
    evidence = {"kind": kind, **evidence, "cutoff": CONSTANT, "source": "the loss of right, wrong and random outputs"}

    def run() -> tuple[float, float]:
        without = plain(s.reference.output, s.target) if kind == "self-normalised" else now
        model = s.twin()
        probe = s.train(model, torch.optim.AdamW(model.parameters(), lr=1e-3), loss=plain)
        return float(without), probe.end

    why = {
        "not-differentiable": "No weight hears of it.",
        "constant-weight": "No weight moves, but by weight decay and momentum.",
        "self-normalised": "Its curve is flat while the network learns or fails; and its steps grow as the loss gets small.",
    }[kind]
    experiment = Experiment(
        f"Put plain cross-entropy in its place, and train {s.steps} steps of AdamW at 1e-3", "cross-entropy on this batch",
        0.99 * least, max(now, math.log(classes)), run,
    )  # fmt: skip
    return Finding("loss-normalisation", "fail", title, evidence, why, fix, experiment)


def _mask(s: Subject, gradients: list[Tensor]) -> Finding | None:
    """Is the gradient where the mask says, and only there?"""
    if s.mask is None:
        return None
    sizes = [g.abs().sum(1) if s.by_class else g.abs().reshape(s.target.shape) for g in gradients]
    mask = s.mask.expand_as(s.target)
    if bool(mask.all()) or not bool(mask.any()):
        return None
    inside, outside = (float(torch.stack([size[m].double().mean() for size in sizes]).mean()) for m in (mask, ~mask))
    reached = torch.stack([size > 0 for size in sizes]).any(0)
    counts = mask & s.counted & (s.target > 0)
    heard = float(reached[counts].double().mean()) if bool(counts.any()) else 1.0
    share = outside / max(inside + outside, 1e-300)
    if outside <= OUTSIDE * inside and heard >= HEARD:
        return None
    wrong = "inverted" if outside > 0 and inside <= OUTSIDE * outside else "not applied" if heard >= HEARD else "another one"
    evidence = {"kind": "wrong-mask", "mask": wrong, "inside": inside, "outside": outside, "heard": heard}
    evidence |= {"cutoff": [OUTSIDE, HEARD], "source": "gradient of the loss by cell"}
    title = (
        f"The mask is {wrong}: a cell outside of it has {outside / max(inside, 1e-12):.2g} times the gradient of one inside."
    )
    plain = _cross_entropy(s)

    def run() -> tuple[float, float]:
        _, g = _slope(s, _outputs(s)["random"], plain)
        size = g.abs().sum(1) if s.by_class else g.abs().reshape(s.target.shape)
        a, b = float(size[mask].mean()), float(size[~mask].mean())
        return share, b / (a + b)

    fix = "loss = F.binary_cross_entropy_with_logits(logits[mask], target[mask])  # mask: True where a cell counts"
    why = "Cells that nobody saw are marked empty in the target: the network learns that what is hidden is not there."
    experiment = Experiment(
        "Apply the mask, in a plain cross-entropy", "share of the gradient outside the mask", 0.0, 1e-6, run
    )
    return Finding("loss-normalisation", "fail", title, evidence, why, fix, experiment)


def _sum(s: Subject, output: Tensor, value: float, evidence: dict[str, Any]) -> Finding:
    """Does the loss grow with the number of frames and cells?"""
    ratio = _growth(s, output, value)
    cells = int(s.counted.sum())
    evidence = evidence | {"growth": ratio, "loss_a_cell": value / max(cells, 1), "cutoff": [2 - 2 * ADDS_UP, A_CELL]}
    evidence["source"] = "the loss of the batch with itself behind it"
    if ratio is None or not math.isfinite(ratio):
        title = "The loss follows the output; whether it grows with the batch was not measured."
        return Finding("loss-normalisation", "pass", title, evidence)
    if abs(ratio - 2) > 2 * ADDS_UP:
        return Finding("loss-normalisation", "pass", f"Twice the batch gives {ratio:.2f} times the loss.", evidence)
    if abs(value) < A_CELL * cells:
        title = f"Twice the batch gives {ratio:.2f} times the loss: the learning rate belongs to one batch size."
        return Finding("loss-normalisation", "note", title, evidence)
    norm = math.sqrt(sum(float(g.double().square().sum()) for g in s.look.gradients.values() if g is not None))
    weights = math.sqrt(sum(float(p.detach().double().square().sum()) for p in s.model.parameters()))
    step = math.nan
    if isinstance(s.optimizer, torch.optim.SGD):
        rate = max(float(group["lr"]) for group in s.optimizer.param_groups)
        step = rate * min(norm, s.clip_norm or math.inf) / max(weights, 1e-12)
    evidence = {"kind": "sum", **evidence, "gradient_norm": norm, "first_step": step}
    title = f"The loss is a sum over the {cells} cells: it doubles with the batch, and the gradient's norm is {norm:.3g}."
    why = "Learning rate, clipping norm and weight decay then mean something else for every grid and batch size."
    if step > FIRST_STEP:
        why += f" SGD's first step is {step:.2g} times as long as the weights."
    fix = "loss = F.binary_cross_entropy_with_logits(logits, target, reduction='mean')"

    def run() -> tuple[float, float]:
        twin = s.twin()
        with torch.enable_grad():
            mean = s.value(s.run(twin)) / cells
        found = torch.autograd.grad(mean, [p for p in twin.parameters() if p.requires_grad], allow_unused=True)
        return norm, math.sqrt(sum(float(g.double().square().sum()) for g in found if g is not None))

    experiment = Experiment(
        f"Divide the loss by the {cells} cells", "gradient norm", 0.8 * norm / cells, 1.25 * norm / cells, run
    )
    return Finding("loss-normalisation", "fail" if step > FIRST_STEP else "warn", title, evidence, why, fix, experiment)


def _growth(s: Subject, output: Tensor, value: float) -> float | None:
    """The loss of twice the frames over the loss; None where the loss takes no other number of frames."""
    with torch.no_grad():
        try:
            return float(s.value(torch.cat([output, output]), torch.cat([s.target, s.target]))) / value if value else None
        except ERRORS:  # it closes over something with as many frames
            pass
        if len(output) < 2:
            return None
        try:
            parts = [float(s.value(output[i], s.target[i])) for i in (slice(0, 1), slice(1, None))]
        except ERRORS:
            return None
    # Of a sum, the parts add up to the whole, as if twice of it were twice; of a mean they add up to more.
    return 2.0 if abs(sum(parts) - value) < 1e-3 * abs(value) else 1.0


# --- asking the loss ----------------------------------------------------------------------------------------------------


def _outputs(s: Subject) -> dict[str, Tensor]:
    """Outputs of every kind, as the loss takes them: two random ones, a right one, and one that is wrong everywhere."""
    g = torch.Generator().manual_seed(0)
    if s.by_class:
        noise = [torch.randn(s.output.shape, generator=g).to(s.output) for _ in range(2)]
        k = s.output.shape[1]
        hot = F.one_hot(s.target.long().clamp(0, k - 1), k).movedim(-1, 1).to(s.output)
        logits = {
            "random": noise[0],
            "random_too": noise[1],
            "right": 3 * hot + 0.1 * noise[0],
            "wrong": 0.1 * noise[1] - 3 * hot,
        }
        return {name: s.taken(output) for name, output in logits.items()}
    noise = [torch.rand(s.target.shape, generator=g).to(s.output) for _ in range(2)]
    t = s.target.to(s.output).nan_to_num().clamp(0, 1)
    ps = {"random": 0.05 + 0.9 * noise[0], "random_too": 0.05 + 0.9 * noise[1], "right": 0.8 * t + 0.05 + 0.1 * noise[0]}
    ps["wrong"] = torch.where(t > 0, 0.1, 0.3 + 0.6 * noise[1])  # errors of 0.9 and less: even Lovász hears every cell
    logits = s.takes == "logits"
    return {name: (torch.logit(p) if logits else p).reshape(s.output.shape) for name, p in ps.items()}


def _slope(s: Subject, output: Tensor, loss: Callable[[Tensor, Tensor], Tensor] | None = None) -> tuple[float, Tensor]:
    """The loss of an output and its gradient there, 0 where there is none."""
    output = output.detach().clone().requires_grad_()
    with torch.enable_grad():
        value = s.value(output) if loss is None else loss(output, s.target)
        found = torch.autograd.grad(value, [output], allow_unused=True)[0] if value.requires_grad else None
    return float(value.detach()), torch.zeros_like(output) if found is None else found


def _says_nothing(s: Subject, output: Tensor, values: list[float], gradient: Tensor) -> bool:
    """Does the loss stay the same however wrong the output, though the gradient says that a small step would change it?"""
    size = max(abs(v) for v in values)
    norm = float(gradient.double().norm())
    if not size > 0 or not max(values) - min(values) < CONSTANT * size or not norm > 0:
        return False
    most = (0.5 if s.takes == "logits" else 0.03) * math.sqrt(output.numel())
    step = min(0.05 * size / norm, most)
    if step * norm < 10 * CONSTANT * size:  # Dice of empty frames: constant indeed, and hardly a gradient
        return False
    with torch.no_grad():
        moved = float(s.value(output - step * gradient / norm))
    return abs(moved - values[0]) < 0.1 * step * norm


def _cross_entropy(s: Subject) -> Callable[[Tensor, Tensor], Tensor]:
    """Mean cross-entropy of the cells that count."""

    def plain(output: Tensor, target: Tensor) -> Tensor:
        if s.by_class:
            target = target.long().masked_fill(~s.counted, -100)
            output = output.float()
            return F.cross_entropy(output if s.takes == "logits" else output.clamp(1e-6, 1).log(), target)
        output, target = output.float().reshape(target.shape)[s.counted], target.float()[s.counted]
        if s.takes == "logits":
            return F.binary_cross_entropy_with_logits(output, target)
        return F.binary_cross_entropy(output.clamp(1e-6, 1 - 1e-6), target.clamp(0, 1))

    return plain


def _entropy(t: Tensor) -> Tensor:
    t = t.double().clamp(0, 1)
    return -(torch.xlogy(t, t) + torch.xlogy(1 - t, 1 - t))


# --- terms --------------------------------------------------------------------------------------------------------------


def loss_term_dominance(s: Subject) -> Finding:
    """How much of the gradient at the output comes from each term of the loss?"""
    if not s.by_class and not s.rate > 0:
        title = "Without an occupied cell, overlap has no gradient to compare."
        return Finding("loss-term-dominance", "not-measurable", title)
    own = _shares(s, s.output)
    if own is None or len(own) < 2:
        title = "The loss gives one number, or one term of it reaches the output: nothing to compare."
        return Finding("loss-term-dominance", "not-measurable", title)
    others = [
        shares for output in _outputs(s).values() if (shares := _shares(s, output)) is not None and shares.keys() == own.keys()
    ]
    loudest, faintest = max(own, key=own.__getitem__), min(own, key=own.__getitem__)
    evidence: dict[str, Any] = {"shares": own, "cutoff": list(WARN), "source": "gradient norms of the terms at the output"}
    title = (
        f"Of the gradient at the output, {loudest} makes {100 * own[loudest]:.4g} %, {faintest} {100 * own[faintest]:.2g} %."
    )
    always = [own, *others]
    silent = all(shares[faintest] < WARN[0] for shares in always)
    alone = all(shares[loudest] > WARN[1] for shares in always)
    if not (silent or alone):
        heard = own[faintest] > NOTE[0] and own[loudest] < NOTE[1]
        return Finding("loss-term-dominance", "pass" if heard else "note", title, evidence)
    name = faintest if silent else loudest
    factor = (1 - own[name]) / max(own[name], 1e-30)
    why = "The other terms cost time and change nothing, whatever the output: right, wrong or random."
    if silent and not alone:
        why = f"{name} costs time and changes nothing, whatever the output: right, wrong or random."
    fix = f"weights[{name!r}] *= {factor:.3g}"
    experiment = Experiment(
        f"Weigh {name} {factor:.3g} times as much", f"share of {name} in the gradient at the output", 0.45, 0.55,
        lambda: (own[name], (_shares(s, s.run(s.twin()).detach(), {name: factor}) or {})[name]),
    )  # fmt: skip
    return Finding("loss-term-dominance", "fail", title, evidence, why, fix, experiment)


def _shares(s: Subject, output: Tensor, weights: dict[str, float] | None = None) -> dict[str, float] | None:
    """Each term's share of the summed gradient norms at an output, of those that reach it; None where there are no terms."""
    output = output.detach().clone().requires_grad_()
    try:
        with torch.enable_grad():
            terms = _terms(s, output)
            norms = {name: float(g.double().norm()) for name, t in terms.items() if (g := _gradient(t, output)) is not None}
    except ERRORS:
        return None
    norms = {name: norm * (weights or {}).get(name, 1.0) for name, norm in norms.items() if norm > 0 and math.isfinite(norm)}
    total = sum(norms.values())
    return {name: norm / total for name, norm in norms.items()} if total > 1e-12 else None


def _terms(s: Subject, output: Tensor) -> dict[str, Tensor]:
    """The weighted terms by name, as mmdetection's losses and ours name them."""
    if callable(getattr(s.loss, "terms", None)):
        weighed = {name: getattr(s.loss, name, 1.0) * t for name, t in s.loss.terms(output, s.target).items()}
        return {name: t for name, t in weighed.items() if isinstance(t, Tensor)}
    value = s.loss(output, s.target)
    if not isinstance(value, dict):
        return {}
    return terms_of(value)


def _gradient(term: Tensor, output: Tensor) -> Tensor | None:
    if not (isinstance(term, Tensor) and term.requires_grad):
        return None
    return torch.autograd.grad(term.sum(), [output], retain_graph=True, allow_unused=True)[0]


STRUCTURE = (loss_normalisation, loss_term_dominance)
PROBES = ()
