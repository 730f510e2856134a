"""Checks of the batch: numbers that are not finite, empty and repeated frames. None of them trains."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..copying import swapped, tensors
from ..finding import Experiment, Finding
from ..subject import ERRORS, Subject
from .alignment import occupied

EMPTY, EMPTY_FRAMES = 0.05, 2
"""Share and number of frames without an occupied cell, of a batch of 8 at least, that are worth a warning."""
TELLING = 16
"""Cells of a frame that must differ from its usual value before two frames can be called the same, or a target repeated."""
MOST_FRAMES = 128
"""Of a batch that are compared with one another."""


# --- not finite ---------------------------------------------------------------------------------------------------------


def non_finite(s: Subject) -> Finding:
    """NaN and infinity, from the inputs to the gradients: the first in the order of cause and effect."""
    spoilt = _spoilt(s)
    evidence: dict[str, Any] = {"cutoff": 0, "source": "torch.isfinite"}
    found = next(((kind, name, t) for kind, name, t in _in_order(s) if not bool(t.isfinite().all())), None)
    if found is None:
        return Finding("non-finite", "pass", "Every number from the inputs to the gradients is finite.", evidence)
    kind, name, t = found
    bad = int((~t.isfinite()).sum())
    evidence = {"kind": kind, "name": name, "bad": bad, "share": bad / t.numel(), **evidence}
    what = f"{bad} of {t.numel()} values of the {kind}{f' {name}' if name else ''} {'is' if bad == 1 else 'are'} not finite"
    if not spoilt:  # -inf in an attention mask, NaN for "unknown": the loss knows how to deal with it
        return Finding("non-finite", "note", f"{what}, but output, loss and gradients are.", evidence)
    change = _CLEANED[kind][0]
    if kind == "gradients" and name != OUTPUT:
        change = f"{_ZEROED} gradient of each layer's output"
    experiment = Experiment(
        change, "number of values not finite in output, loss and gradients", 0, 0,
        lambda: (_spoilt(s), _spoilt(_cleaned(s, kind, name))),
    )  # fmt: skip
    why = "One such number makes the loss NaN, and one step with a NaN gradient makes every weight NaN."
    return Finding("non-finite", "fail", f"{what}.", evidence, why, _CLEANED[kind][1], experiment)


OUTPUT = "of the output"

_ZEROED = "Put 0 (for a variance 1) for what is not finite in the"
_INSIDE = "Keep the output away from the ends of its range"
_CLEANED = {
    "inputs": (f"{_ZEROED} inputs", "inputs = torch.nan_to_num(inputs, 0.0, 0.0, 0.0)  # and find the frame they come from"),
    "target": (f"{_ZEROED} target", "known = target.isfinite()\nvalue = loss(output[known], target[known])"),
    "parameters": (
        f"{_ZEROED} parameters",
        "assert all(p.isfinite().all() for p in model.parameters())  # after loading, and after each step\n"
        "nn.utils.clip_grad_norm_(model.parameters(), 1.0, error_if_nonfinite=True)",
    ),
    "buffers": (
        f"{_ZEROED} buffers",
        "for m in model.modules():\n"
        "    if hasattr(m, 'reset_running_stats'):\n"
        "        m.reset_running_stats()  # then pass some batches through the model in training mode",
    ),
    "output": (
        f"{_ZEROED} output of that layer",
        "with torch.autocast('cuda', enabled=False):  # half precision ends at 65504; and divide by x.clamp(min=1e-6)\n"
        "    x = layer(x.float())",
    ),
    "loss": (_INSIDE, "logits = logits.clamp(-15, 15)  # of probabilities: p.clamp(1e-6, 1 - 1e-6)"),
    "gradients": (_INSIDE, "x = torch.sqrt(x + 1e-12)  # a root, norm or logarithm of 0: set_detect_anomaly(True) names it"),
}  # fmt: skip


def _in_order(s: Subject) -> Iterator[tuple[str, str, Tensor]]:
    """What was given and what comes of it, causes first: kind, name, values."""
    yield from (("inputs", "", t) for t in tensors(s.inputs))
    target = s.target.float()
    yield "target", "", target if s.mask is None else target[s.counted]
    yield from (("parameters", name, p.detach()) for name, p in s.model.named_parameters())
    for name, b in s.model.named_buffers():
        yield "buffers", name, b.masked_fill(b == -math.inf, 0) if b.is_floating_point() else b  # as attention masks hold
    for name, output in _layer_outputs(s):
        yield "output", name, output
    try:
        look = s.look
    except ERRORS:
        return
    yield "loss", "", torch.tensor(look.loss)
    if look.output_gradient is not None:
        yield "gradients", OUTPUT, look.output_gradient
    yield from (("gradients", name, g) for name, g in reversed(look.gradients.items()) if g is not None)


def _layer_outputs(s: Subject) -> Iterator[tuple[str, Tensor]]:
    found: list[tuple[str, Tensor]] = []
    if not bool(s.output.isfinite().all()):
        twin = s.twin()
        leaves = [(name, m) for name, m in twin.named_modules() if not any(True for _ in m.children())]
        with hooks(leaves, lambda name, output: found.append((name, output.detach()))), torch.no_grad():
            s.run(twin)
    yield from found
    yield "", s.output


def _spoilt(s: Subject) -> int:
    """Values that are not finite in the output (in training and evaluation mode), the loss and the gradients."""
    with s.evaluating(s.twin()) as model:
        values = [s.output, s.run(model)]
    try:
        values += [torch.tensor(s.look.loss), s.look.output_gradient, *s.look.gradients.values()]
    except ERRORS:  # a loss of probabilities refuses NaN
        values.append(torch.tensor(math.nan))
    return sum(int((~v.isfinite()).sum()) for v in values if v is not None)


def _cleaned(s: Subject, kind: str, name: str) -> Subject:
    zero = partial(torch.nan_to_num, nan=0.0, posinf=0.0, neginf=0.0)
    if kind == "inputs":
        inputs = s.inputs
        for t in tensors(s.inputs):
            inputs = swapped(inputs, t, zero(t))
        return replace(s, inputs=inputs)
    if kind == "target":
        return replace(s, target=zero(s.target))
    model = s.copies()[0]
    if kind in ("parameters", "buffers"):
        with torch.no_grad():
            for other, t in (*model.named_parameters(), *model.named_buffers()):
                if t.is_floating_point():
                    t.copy_(torch.where(t.isfinite(), t, float(other.endswith("running_var"))))
        return replace(s, model=model)
    if kind == "output":
        layer = model.get_submodule(name)
        layer.register_forward_hook(lambda _, __, output: zero(output))
        return replace(s, model=model)
    if kind == "gradients" and name != OUTPUT:
        for layer in model.modules():
            layer.register_forward_hook(lambda _, __, output: _catching(output, zero))
        return replace(s, model=model)
    in_unit = float(s.output.min()) >= 0 and float(s.output.max()) <= 1
    low, high = (1e-6, 1 - 1e-6) if in_unit else (-15.0, 15.0)
    return replace(s, loss=lambda output, target: s.loss(output.clamp(low, high), target))


def _catching(output: Any, zero: Callable[[Tensor], Tensor]) -> None:
    if isinstance(output, Tensor) and output.requires_grad:
        output.register_hook(zero)


@contextmanager
def hooks(modules: list[tuple[str, nn.Module]], look: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Tell ``look`` the name and output of each of these modules, when it returns one tensor."""

    def hook(name: str) -> Callable[..., None]:
        return lambda _, __, output: look(name, output) if isinstance(output, Tensor) else None

    handles = [m.register_forward_hook(hook(name)) for name, m in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


# --- frames -------------------------------------------------------------------------------------------------------------


def empty_targets(s: Subject) -> Finding:
    """Frames without an occupied cell; of classes, with one class only."""
    if s.target.numel() < TELLING:
        return Finding("empty-targets", "not-measurable", f"{s.target.numel()} cells are too few to call them empty.")
    framed = s.target[0].numel() >= TELLING  # else the cells of the frames are in one row, and only all can be empty
    if s.by_class:
        parts = zip(s.target, s.counted, strict=True) if framed else [(s.target, s.counted)]
        frames = [t[c].unique().numel() <= 1 for t, c in parts]
    else:
        frames = [not bool((t > 0).any()) for t in (occupied(s) if framed else [occupied(s)])]
    empty, b = sum(frames), len(frames)
    evidence: dict[str, Any] = {"empty": empty, "frames": b, "cutoff": EMPTY, "source": "share of the batch"}
    if not empty:
        return Finding("empty-targets", "pass", f"Each of the {b} frames has something in it.", evidence)
    title = f"{empty} of {b} frames have no occupied cell in their target."
    fix = "kept = target.flatten(1).any(1)  # and look at the others: a wrong range, unit, mask or class?"
    fix += "\ninputs, target = inputs[kept], target[kept]"
    if empty == b:
        why = "The answer 'empty' everywhere is right, and is all that can be learnt."
        before = _empty_share(s, s.output)
        experiment = Experiment(
            f"Train {s.steps} steps on this batch", "mean probability of 'empty'", before - 1e-3, 1.0,
            lambda: (before, _empty_share(s, s.reference.output)),
        )  # fmt: skip
        return Finding("empty-targets", "fail", title, evidence, why, fix, experiment)
    if empty < EMPTY_FRAMES or b < 8 or empty <= EMPTY * b:
        return Finding("empty-targets", "note", title, evidence)
    kept = torch.tensor([not f for f in frames])
    mean = float(occupied(s).double().mean())
    high = mean * b / (b - empty)
    experiment = Experiment(
        "Leave these frames out", "mean target", 0.999 * high, 1.001 * high,
        lambda: (mean, float(occupied(s)[kept].double().mean())),
    )  # fmt: skip
    why = "They pull the output towards empty; and Dice and IoU of an empty frame are 0 or 1 by convention, not by merit."
    return Finding("empty-targets", "warn", title, evidence, why, fix, experiment)


def _empty_share(s: Subject, output: Tensor) -> float:
    p = s.p(output)
    return float(p[:, int(s.target[s.counted][0])].mean()) if s.by_class else 1 - float(p.mean())


def duplicate_frames(s: Subject) -> Finding:
    """The same input twice, with one answer or two; or two inputs with one answer."""
    b = min(len(s.target), MOST_FRAMES)
    batched = [t for t in tensors(s.inputs) if t.dim() > 0 and len(t) == len(s.target)]
    if b < 2 or not batched:
        return Finding("duplicate-frames", "not-measurable", "Needs two frames, and inputs with a tensor of as many.")
    same, other = torch.equal, lambda a, c: not torch.equal(a, c)
    pairs = [(i, j) for i in range(b) for j in range(i)]
    telling = [any(_differing(t[i]) >= TELLING for t in batched) for i in range(b)]
    inputs = [(i, j) for i, j in pairs if telling[i] and all(same(t[i], t[j]) for t in batched)]
    told = occupied(s).flatten(1)
    full = (told > 0).sum(1) >= TELLING
    targets = [(i, j) for i, j in pairs if bool(full[i]) and same(s.target[i], s.target[j]) and (i, j) not in inputs]
    torn = [(i, j) for i, j in inputs if other(s.target[i], s.target[j])]
    evidence: dict[str, Any] = {"frames": b, "cutoff": 0, "source": "bit by bit"}
    if not inputs and not targets:
        return Finding("duplicate-frames", "pass", f"No two of the {b} frames are the same.", evidence)
    kind, found = ("one-input-two-targets", torn) if torn else ("same-frame", inputs) if inputs else ("same-target", targets)
    what = {
        "one-input-two-targets": "have the same input and different targets",
        "same-frame": "are the same frame",
        "same-target": "have different inputs and the same target, bit for bit",
    }[kind]
    evidence = {"kind": kind, "pairs": [list(pair) for pair in found[:20]], **evidence}
    title = f"{len(found)} pair{'s' if len(found) > 1 else ''} of the {b} frames {what}: {found[0][1]} and {found[0][0]}."
    why = {
        "one-input-two-targets": "No network can give both answers; the best it can do is their mean.",
        "same-frame": "The batch is smaller than it looks; a file list with copies puts them into validation as well.",
        "same-target": "One of them is told another frame's answer: an index, or an augmentation of the input alone.",
    }[kind]
    left_out = {i for i, _ in (*inputs, *targets)}
    kept = torch.tensor([i for i in range(b) if i not in left_out])
    experiment = Experiment(
        f"Leave out {len(left_out)} of the {b} frames", "pairs of frames with one input or one target", 0, 0,
        lambda: (len(inputs) + len(targets), _repeated([t[kept] for t in batched], s.target[kept])),
    )  # fmt: skip
    fix = f"kept = {kept.tolist()}  # and look at the sampler, and at what augments or caches a frame"
    fix += "\ninputs, target = inputs[kept], target[kept]"
    return Finding("duplicate-frames", "fail" if torn else "warn", title, evidence, why, fix, experiment)


def _differing(t: Tensor) -> int:
    """Values that are not the most common one (of a sample: the median)."""
    t = t.float().flatten()
    return int((t != t.median()).sum())


def _repeated(batched: list[Tensor], target: Tensor) -> int:
    pairs = [(i, j) for i in range(len(target)) for j in range(i)]
    return sum(all(torch.equal(t[i], t[j]) for t in batched) or torch.equal(target[i], target[j]) for i, j in pairs)


STRUCTURE = (non_finite, empty_targets, duplicate_frames)
PROBES = ()
