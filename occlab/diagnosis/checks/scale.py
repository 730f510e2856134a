"""Are the inputs of a size that the first layers can take?"""

import math
from typing import Any

import torch
from torch import Tensor

from ..copying import swapped, tensors
from ..finding import Experiment, Finding
from ..flow import kind_of
from ..subject import Subject
from .alignment import occupied
from .data import hooks

SCALE, LARGE, SMALL = 100.0, 1e3, 1e-3
"""Inputs are suspected by their root mean square over the places that are not 0, or as 8-bit images; they are convicted where
an early layer, or the output, varies over 100 times more or less than it does for inputs of unit size, and by as much more or
less than a healthy one."""
HOPELESS = 1e4
"""So far out of scale that the first steps only undo it."""
HEALTHY = (0.1, 10.0)
"""Spread of a healthy early layer within a channel: torch's default and He's initialisation give 0.3 to 1.4 for inputs of unit
size, trained networks stay within a factor of 3 of that."""


def input_scale(s: Subject) -> Finding:
    """Constant inputs, frames of zeros, and sizes that the first layers cannot take."""
    floating = [t for t in tensors(s.inputs) if t.is_floating_point() and t.numel() > 1]
    if not floating:
        return Finding("input-scale", "not-measurable", "The inputs hold no floating-point tensor.")
    x = max(floating, key=Tensor.numel)
    occupied_frames = occupied(s).flatten(1).any(1)
    batched = [t for t in floating if len(t) == len(s.target)]  # a sensor may fail, as long as another does not
    blank = [i for i in range(len(s.target)) if bool(occupied_frames[i]) and not any(bool(t[i].any()) for t in batched)]
    blank = blank if len(x) == len(s.target) else []
    constant = all(bool((t == t.flatten()[0]).all()) for t in floating)
    rms = float(x[x != 0].double().square().mean().sqrt()) if bool((x != 0).any()) else 0.0
    evidence: dict[str, Any] = {"rms": rms, "lowest": float(x.min()), "highest": float(x.max())}
    evidence |= {"cutoff": [SMALL, LARGE, SCALE], "source": "spread of an early layer, against inputs of unit size"}
    if constant or blank:
        kind, which = ("constant", list(range(len(x)))) if constant else ("zero-frame", blank)
        evidence = {"kind": kind, "frames": which[:20], **evidence}
        title = f"Every input is {float(x.flatten()[0]):g}."
        title = title if constant else f"The inputs of {len(blank)} of {len(x)} frames are all 0."
        why = "There is nothing to tell one cell, or one frame, from another; only their mean can be learnt."
        fix = "assert inputs.flatten(1).std(1).min() > 0  # a missing file, a crop, a cast to integers, a wrong key?"
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
        filled = x.clone()
        filled[which] = noise[which]
        experiment = Experiment(
            "Put noise of unit size in their place", "spread of an early layer on them", HEALTHY[0] / 3, 3 * HEALTHY[1],
            lambda: (_spread(s, x, x, which), _spread(s, x, filled, which)),
        )  # fmt: skip
        return Finding("input-scale", "fail", title, evidence, why, fix, experiment)
    drowned = _drowned(s, x, evidence)
    if drowned is not None:
        return drowned
    byte = float(x.min()) >= 0 and 200 < float(x.max()) <= 255 and float((x > 0).float().mean()) > 0.5
    if not (byte or rms > LARGE or rms < SMALL) or not math.isfinite(rms):
        return Finding(
            "input-scale", "pass", f"The inputs have a root mean square of {rms:.3g} where they are not 0.", evidence
        )
    given, unit = _spread(s, x, x), _spread(s, x, x / rms)
    evidence |= {"spread": given, "spread_at_unit_size": unit}
    large = given > SCALE * unit and given > HEALTHY[1]
    small = given * SCALE < unit and given < HEALTHY[0]
    title = f"Inputs of root mean square {rms:.3g} give an early layer a spread of {given:.3g}; of size 1, {unit:.3g}."
    if not (large or small) or _has_learnt(s):
        return Finding("input-scale", "pass", title, evidence)
    evidence = {"kind": "byte-image" if byte else "large" if large else "small", **evidence}
    why = "Gradients of the first layers grow with their inputs, those of the others do not: no one learning rate fits both."
    fix = f"inputs = inputs / {rms:.4g}  # or (inputs - mean) / std of each channel over the training set"
    low, high = sorted((given / rms / 3, given / rms * 3))
    experiment = Experiment(
        f"Divide the inputs by {rms:.4g}", "spread of an early layer", low, high, lambda: (given, _spread(s, x, x / rms))
    )
    verdict = "fail" if large and given > HOPELESS * unit else "warn"
    return Finding("input-scale", verdict, title, evidence, why, fix, experiment)


def _has_learnt(s: Subject) -> bool:
    """A network that does well with its inputs is used to them."""
    return not s.by_class and s.skill(s.look.loss) > 0.1


def _drowned(s: Subject, x: Tensor, evidence: dict[str, Any]) -> Finding | None:
    """One channel so large that an early layer gives the same answer without the others?"""
    if x.dim() < 3 or x.shape[1] < 2 or evidence["rms"] < LARGE:
        return None
    std, mean = torch.std_mean(x.double().transpose(0, 1).flatten(1), 1, correction=0)
    sizes = (std.square() + mean.square()).sqrt()
    loud = int(sizes.argmax())
    others = sizes.clone()
    others[loud] = 0
    if not bool((std * (others > 0)).any()) or float(sizes[loud]) < LARGE * float(others.median()):
        return None
    share = _share_of_others(s, x, x, loud)
    if not share < 1 / SCALE or _has_learnt(s):
        return None
    evidence = {"kind": "one-channel", "channel": loud, "size": float(sizes[loud]), "share_of_others": share, **evidence}
    title = (
        f"Channel {loud} is of size {float(sizes[loud]):.3g}: the others make {100 * share:.2g} % of an early layer's answer."
    )
    why = "The first layer sees that channel and nothing else; a norm behind it divides the others away."
    fix = "inputs = (inputs - mean) / std  # of each channel, over the training set: (1, C, 1, 1)"
    shape = (1, -1, *(1,) * (x.dim() - 2))
    scaled = ((x - mean.view(shape).to(x)) / std.clamp(min=1e-12).view(shape).to(x)).to(x)
    experiment = Experiment(
        "Subtract each channel's mean and divide by its spread", "share of the other channels in an early layer's answer",
        0.2, 2.0, lambda: (share, _share_of_others(s, x, scaled, loud)),
    )  # fmt: skip
    return Finding("input-scale", "fail" if share < 0.1 / SCALE else "warn", title, evidence, why, fix, experiment)


def _share_of_others(s: Subject, x: Tensor, new: Tensor, loud: int) -> float:
    """How much of an early layer's answer changes when all channels but one are set to 0."""
    alone = torch.zeros_like(new)
    alone[:, loud] = new[:, loud]
    whole, part = (_early(s, swapped(s.inputs, x, t)).double() for t in (new, alone))
    return float((whole - part).norm() / (whole - whole.mean()).norm().clamp(min=1e-300))


def _early(s: Subject, inputs: Any) -> Tensor:
    """What the first norm or activation returns; the output where no module is one."""
    found: list[Tensor] = []
    twin = s.twin()
    layers = [(name, m) for name, m in twin.named_modules() if kind_of(m) in ("norm", "activation")]
    with hooks(layers, lambda _, output: found.append(output.detach().clone())), torch.no_grad():
        output = s.run(twin, inputs)
    return (found or [output])[0].float()


def _spread(s: Subject, x: Tensor, new: Tensor, frames: list[int] | None = None) -> float:
    """Standard deviation of that within a channel; of some frames in their middle, where no padding comes in."""
    early = _early(s, swapped(s.inputs, x, new))
    if frames is not None and len(early) == len(x):
        early = early[frames]
        for dim in range(2, early.dim()):
            early = early.narrow(dim, early.shape[dim] // 4, max(1, early.shape[dim] // 2))
    return float(early.transpose(0, 1).flatten(1).double().std(1, correction=0).square().mean().sqrt())


STRUCTURE = (input_scale,)
PROBES = ()
