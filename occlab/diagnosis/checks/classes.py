"""Do the target's values mean what the output and the loss take them for: occupied or not, or which class?"""

import copy
import math
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..finding import Experiment, Finding
from ..subject import ERRORS, Subject
from .alignment import commonest

IGNORED = (255, -1, -100)
"""Classes that usually mean "do not count": of masks in PNG files, of detection boxes, of torch's cross-entropy."""
INVERTED = 0.9
"""Share of occupied cells of a volume above which its empty cells are taken to be marked 1: SemanticKITTI's volumes hold
some 10 %, nuScenes' 1 to 5 %."""
ONE_CLASS = 0.999
"""Share of a class that is worth a note."""


def class_map(s: Subject) -> Finding:
    """Do the target's values mean what the output and the loss take them for?"""
    if s.by_class and s.output.shape[1] > 1:
        return _classes(s)
    output, target = s.output, s.target
    if output.numel() != target.numel():
        return _shapes(s)
    inside = s.mask.expand_as(target) if s.mask is not None else torch.ones_like(target, dtype=torch.bool)
    values = target.float()[inside]
    low, high = (float(values.min()), float(values.max())) if values.numel() else (0.0, 0.0)
    rate = float((values > 0).double().mean()) if values.numel() else 0.0
    evidence: dict[str, Any] = {"lowest": low, "highest": high, "share_occupied": rate, "cutoff": [0, 1, INVERTED]}
    evidence["source"] = "what a probability is held against"
    outside = ((target < -1e-4) | (target > 1 + 1e-4)) & inside
    if bool(outside.any()) and bool(target.float().isfinite().all()):
        if _ignores(s, outside):
            title = f"{int(outside.sum())} target values outside [0, 1] are ignored by the loss."
            return Finding("class-map", "note", title, evidence)
        byte = high > 1 and bool(((values == 0) | (values == high)).all())
        divided = target.float() / high if low >= 0 else target.float().clamp(0, 1)
        evidence = {"kind": "byte-mask" if byte else "out-of-range", **evidence}
        title = f"Targets lie in [{low:g}, {high:g}], not in [0, 1]" + (f": a mask of 0 and {high:g}." if byte else ".")
        change = f"Divide the targets by {high:g}" if low >= 0 else "Clamp the targets to [0, 1]"
        fix = f"target = target.float() / {high:g}" if low >= 0 else "target = target.clamp(0, 1)"
        why = "Cross-entropy with a target above 1 has no lower bound: the loss falls for ever, and the network with it."
        fixed = replace(s, target=divided.to(target.dtype) if target.is_floating_point() else divided)
        experiment = Experiment(
            f"{change}, and train {s.steps} steps", "loss on this batch", min(0.0, fixed.floors.perfect), _start(fixed),
            lambda: (s.reference.end, fixed.reference.end),
        )  # fmt: skip
        return Finding("class-map", "fail", title, evidence, why, fix, experiment)
    whole = float((target.float() > 0).double().mean())
    volume = target.dim() >= 4 and max(target.shape[1:-2]) > 1
    if volume and min(rate, whole) > INVERTED and float(values.mean()) > 0.5:
        evidence = {"kind": "inverted", **evidence}
        title = f"{100 * rate:.0f} % of the cells are occupied: does 1 mean free here?"
        fix = "target = 1 - target  # occupied is 1, free is 0"
        why = "Losses and metrics for rare cells (focal, Dice, IoU) then reward the network for calling everything free."
        mean = float(values.double().mean())
        experiment = Experiment(
            "Exchange 0 and 1 in the target", "mean target", 0.0, 1 - INVERTED / 2,
            lambda: (mean, float((1 - target.double())[inside].mean())),
        )  # fmt: skip
        return Finding("class-map", "warn", title, evidence, why, fix, experiment)
    return Finding("class-map", "pass", f"Targets lie in [{low:g}, {high:g}], {100 * rate:.2g} % above 0.", evidence)


def _classes(s: Subject) -> Finding:
    k, target = s.output.shape[1], s.target
    inside = s.mask.expand_as(target) if s.mask is not None else torch.ones_like(target, dtype=torch.bool)
    counts = {int(v): int(n) for v, n in zip(*target[inside].unique(return_counts=True), strict=True)}
    evidence: dict[str, Any] = {"classes": k, "lowest": min(counts, default=0), "highest": max(counts, default=0)}
    evidence |= {"cutoff": [0, k - 1], "source": "one output channel a class"}
    ignored = getattr(s.loss, "ignore_index", getattr(getattr(s.loss, "keywords", None), "get", lambda _: None)("ignore_index"))
    odd = [v for v in counts if not 0 <= v < k and v != ignored]
    outside = torch.isin(target, torch.tensor(odd, device=target.device)) & inside
    if odd and not _ignores(s, outside, unless=all(v in IGNORED for v in odd)):
        return _odd_classes(s, odd, evidence)
    known = {v: n for v, n in counts.items() if 0 <= v < k}
    top, total = max(known.values(), default=0), sum(known.values())
    missing = [v for v in range(k) if v not in known]
    evidence |= {"missing": missing, "largest_share": top / max(total, 1), "ignored": odd}
    rest = set(known) - {commonest(s)}
    if s.target.dim() >= 4 and ignored in known and len(known) > 1 and 2 * known[ignored] > total:
        return _free_ignored(s, int(ignored), evidence)
    if top > ONE_CLASS * total or missing or not rest:
        title = (
            f"{len(missing)} of {k} classes do not occur in this batch; the largest holds {100 * top / max(total, 1):.4g} %."
        )
        return Finding("class-map", "note", title, evidence)
    return Finding("class-map", "pass", f"All {k} classes occur, and no other.", evidence)


def _odd_classes(s: Subject, odd: list[int], evidence: dict[str, Any]) -> Finding:
    k, lowest, highest = s.output.shape[1], int(s.target.min()), int(s.target.max())
    at_one = lowest == 1 and highest == k
    fixed = s.target - 1 if at_one else s.target.clamp(0, k - 1)
    kind, change, fix = (
        "class-index",
        f"Fold the classes into 0 to {k - 1}",
        f"self.head = nn.Conv2d(channels, {highest + 1}, 1)",
    )
    if at_one:
        change, fix = "Count the classes from 0", "target = target - 1"
    elif all(v in IGNORED for v in odd):
        kind, fix = "ignore-index", f"loss = nn.CrossEntropyLoss(ignore_index={odd[0]})"
    evidence = {"kind": kind, "odd": odd[:20], **evidence}
    title = f"The output has {k} classes, 0 to {k - 1}; the target also holds {', '.join(map(str, odd[:5]))}."
    why = "Such a cell has no channel that could be right: the loss raises, or counts it for another class."
    return _class_finding(s, title, evidence, why, fix, change, replace(s, target=fixed))


def _free_ignored(s: Subject, ignored: int, evidence: dict[str, Any]) -> Finding:
    evidence |= {"kind": "free-ignored"}
    title = f"The loss ignores class {ignored}, which holds {100 * evidence['largest_share']:.3g} % of the cells."
    fix = "loss = nn.CrossEntropyLoss()  # ignore_index=255 for unknown cells, never the class of free space"
    why = "Where most cells count for nothing, the network is never told where nothing is, and fills the volume."
    plain = copy.deepcopy(s.loss)
    if isinstance(plain, partial):
        plain = partial(plain.func, *plain.args, **(plain.keywords | {"ignore_index": -100}))
    else:
        plain.ignore_index = -100
    return _class_finding(s, title, evidence, why, fix, f"Count class {ignored}", replace(s, loss=plain))


def _class_finding(
    s: Subject, title: str, evidence: dict[str, Any], why: str, fix: str, change: str, fixed: Subject
) -> Finding:

    def run() -> tuple[float, float]:
        try:
            without = s.reference.end
        except ERRORS:
            without = math.nan
        return without, fixed.reference.end

    experiment = Experiment(f"{change}, and train {s.steps} steps", "loss on this batch", 0.0, _start(fixed), run)
    return Finding("class-map", "fail", title, evidence, why, fix, experiment)


def _start(s: Subject) -> float:
    """The loss that training starts from: that of the untrained output, or of p = 1/2 where that is more."""
    same = float(s.value(s.taken(torch.zeros_like(s.output)))) if s.by_class else s.floors.half
    return max(same, float(s.value(s.output)))


def _ignores(s: Subject, cells: Tensor, unless: bool = False) -> bool:
    """Does the loss leave these cells out? Asked on the CPU only: a class that does not exist kills a CUDA context."""
    if s.output.device.type != "cpu":
        return unless
    output = torch.linspace(0.05, 0.95, s.output.numel()).view_as(s.output).requires_grad_()
    try:
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(s.value(output), [output])
    except ERRORS:
        return False
    size = gradient.abs().sum(1) if gradient.dim() > cells.dim() else gradient.reshape(cells.shape).abs()
    return not bool((size[cells] > 0).any()) and bool((size > 0).any())


def _takes(s: Subject) -> bool:
    try:
        s.value(s.output)
    except ERRORS:
        return False
    return True


def _broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    try:
        torch.broadcast_shapes(a, b)
    except RuntimeError:
        return False
    return True


def _shapes(s: Subject) -> Finding:
    got, wanted = tuple(s.output.shape), tuple(s.target.shape)
    evidence = {
        "kind": "channels",
        "output": list(got),
        "target": list(wanted),
        "cutoff": "equal",
        "source": "one number a cell",
    }
    title = f"The output has shape {got}, the target {wanted}."
    if _takes(s) and not _broadcast(got, wanted):
        return Finding("class-map", "not-measurable", f"{title} The loss sees to that itself.", evidence)
    same = len(got) == len(wanted) and len(got) > 2 and got[:1] + got[2:] == wanted[:1] + wanted[2:]
    experiment = None
    if same:
        convolution = nn.Conv2d if len(got) == 4 else nn.Conv3d
        with torch.random.fork_rng(devices=[]):
            head = convolution(got[1], wanted[1], 1).to(s.output)
        model = nn.ModuleDict({"body": s.copies()[0], "head": head})
        fixed = replace(s, model=model, forward=lambda m, x: m["head"](s.run(m["body"], x)), optimizer=None, scheduler=None)
        experiment = Experiment(
            f"Put a 1x1 convolution to {wanted[1]} channels behind it, and train {s.steps} steps", "loss on this batch",
            min(0.0, fixed.floors.perfect), _start(fixed), lambda: (math.nan, fixed.reference.end),
        )  # fmt: skip
    why = "Without one number for each cell, the loss raises, or quietly compares every channel with every other."
    fix = f"self.head = nn.Conv{max(1, len(got) - 2)}d(channels, {wanted[1] if len(wanted) > 1 else 1}, 1)  # one a height"
    return Finding("class-map", "fail", title, evidence, why, fix, experiment)


STRUCTURE = (class_map,)
PROBES = ()
