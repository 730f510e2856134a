"""What the numbers of training steps say: cut-offs and findings, shared by the doctor and the watch over a loop.

Nothing here trains. ``learnt`` is what the caller knows of the network: True where it fits its targets or its loss falls
as it can, False where it does not, None where nobody can tell. Steps that look odd in a network that learns are a note.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..finding import Experiment, Finding, Verdict
from ..subject import Subject

LEARNT = 0.5
"""Skill from which on a network is left alone. Chosen here: at half of what can be saved, small steps are right."""
CLIPPED_WARN, CLIPPED_FAIL = 0.5, 0.9
"""Share of the steps that are clipped (Google's Tuning Playbook: over half is "extremely aggressive")."""
COEFFICIENT_FAIL = 0.2
"""Median factor of the clipping under which plain gradient descent has lost most of its learning rate. Chosen here."""
COUPLED_COEFFICIENT = 0.1
"""With weight decay added to the gradient, a clipping factor under this multiplies the decay's share by ten and more."""
NEAR_EPSILON = 10.0
"""An element whose root of the second moment is under ten epsilon takes a step at least 9 % shorter than its rate."""
EPSILON_WARN, EPSILON_FAIL = 0.1, 0.5
"""Share of such elements, of those that ever saw a gradient. Healthy set-ups here: under 0.01."""
SMALL_WARN, SMALL_FAIL, LARGE = -3.5, -4.0, -1.0
"""Log10 of the median update over weight (cs231n: -3; TheDeepChecker: -4 to -1)."""
ROSE = 1.2
"""A loss that ends above 1.2 times its start rose. Chosen here: a healthy step on one batch does not lose a fifth."""
STILL = 0.02
"""A loss that changed by less than 2 % stands still."""
DEAD_LAYER, DEAD = 0.5, 0.95
"""Share of channels that are zero everywhere. Half of one layer (SageMaker Debugger's DeadRelu) is a note: of fresh norm-free
networks of ten layers, two in three have such a layer. They reach 0.43 of all channels and 0.88 of one layer, those with norms
0.06 and 0.25 (1,500 of 4 to 16 channels, inputs 0.1 to 100 % filled). Over half of all is a warning."""
WIDE = 8
"""Channels of a layer from which on one that is all dead is no accident of the initial weights."""
ZERO = 1e-6
"""A channel that nowhere exceeds this is zero everywhere: what a norm makes of equal numbers is rounding, under 1e-6."""
PLACES = 64
"""Of a channel; with fewer, a healthy one is often zero in all of them by chance."""
LATE = 0.01
"""A rate under 1 % of what it started at is the end of a schedule."""
NO_RATE = 1e-8
"""float32 weights of the usual size do not change under it."""

RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.Threshold, nn.Hardtanh, nn.Hardswish, nn.Softshrink, nn.Hardshrink)
"""Activations that give exact zeros; Hardtanh only where its lower end is 0."""

_SCALE_FREE = ("ada", "lion", "rmsprop", "rprop", "lamb", "lars", "muon", "prodigy", "sophia", "shampoo", "soap", "signsgd")
_COUPLED = ("Adam", "NAdam", "RAdam", "Adamax", "RMSprop", "Adagrad")


def learnt(s: Subject, loss: float, skill: float = LEARNT) -> bool:
    """Does a loss show that much skill? Of classes, over predicting how often each occurs."""
    if not s.by_class:
        return s.skill(loss) >= skill
    output = s.output
    counts = torch.bincount(s.target[s.counted].reshape(-1), minlength=output.shape[1])[: output.shape[1]]
    logits = (counts.to(output) + 0.5).log().view(1, -1, *[1] * (output.dim() - 2)).expand_as(output)
    with torch.no_grad():
        constant = float(s.value(s.taken(logits.contiguous())))
    return loss <= (1 - skill) * constant


def least_loss(s: Subject) -> float:
    """What no experiment gets below."""
    return 0.0 if s.by_class else s.floors.perfect


# --- clipping -----------------------------------------------------------------------------------------------------------


def percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def scale_free(optimizer: Optimizer) -> bool | None:
    """Is the update the same where all gradients are multiplied? Adam and its kin divide by the gradients' own size, plain
    gradient descent does not; None of an optimiser that is not known."""
    names = [kind.__name__.lower() for kind in type(optimizer).__mro__ if issubclass(kind, Optimizer) and kind is not Optimizer]
    if any(word in name for name in names for word in _SCALE_FREE):
        return True
    return False if any("sgd" in name for name in names) else None


def coupled_decay(optimizer: Optimizer) -> float:
    """The largest weight decay that is added to the gradient before it is divided by its size; 0 where it is decoupled."""
    if not any(kind.__name__ in _COUPLED for kind in type(optimizer).__mro__) or isinstance(optimizer, torch.optim.AdamW):
        return 0.0
    groups = (g for g in optimizer.param_groups if not g.get("decoupled_weight_decay", False))
    return max((float(g.get("weight_decay", 0.0)) for g in groups), default=0.0)


@dataclass(frozen=True)
class Clips:
    """How hard gradients are clipped."""

    norm: float
    """What they are clipped at."""
    share: float
    coefficient: float | None
    """Median factor that a gradient is multiplied with; None where the norms before clipping are not known."""
    percentiles: tuple[float, float, float] | None
    """Median, 90th and 99th percentile of the norms before clipping."""

    @classmethod
    def of(cls, norms: Sequence[float], norm: float) -> "Clips":
        """From norms before clipping."""
        values = torch.tensor([n for n in norms if math.isfinite(n)], dtype=torch.float64)
        factors = (norm / (values + 1e-6)).clamp(max=1)  # as torch's clip_grad_norm_ divides
        p50, p90, p99 = torch.quantile(values, torch.tensor([0.5, 0.9, 0.99], dtype=torch.float64)).tolist()
        return cls(norm, float((values > norm).double().mean()), float(factors.median()), (p50, p90, p99))


def clipping_finding(
    clips: Clips, optimizer: Optimizer, learnt: bool | None, *, decay_share: float = 0.0, experiment: Experiment | None = None
) -> Finding:
    """``clipping``: a lost learning rate under plain gradient descent, nearly nothing under Adam.

    Args:
        learnt: or: does clipping cost nothing?
        decay_share: norm of a weight decay that is added to the gradient, over the clipping norm.
    """
    free, factor = scale_free(optimizer), clips.coefficient
    name = type(optimizer).__name__
    evidence: dict[str, Any] = {"clipped": clips.share, "coefficient": factor, "clip_norm": clips.norm, "optimizer": name}
    if clips.percentiles:
        evidence |= dict(zip(("p50", "p90", "p99"), clips.percentiles, strict=True))
    evidence |= {"cutoff": [CLIPPED_WARN, CLIPPED_FAIL], "source": "Tuning Playbook, gradient clipping"}
    title = f"{percent(clips.share)} of the gradient norms are above the clipping norm of {clips.norm:g}"
    title += "." if factor is None else f"; the median gradient is multiplied by {factor:.3g}."
    strong = factor is not None and factor < COUPLED_COEFFICIENT
    if free and coupled_decay(optimizer) and strong and clips.share > CLIPPED_FAIL and decay_share > 0.1:
        evidence |= {"kind": "coupled-decay", "weight_decay": coupled_decay(optimizer), "decay_over_gradient": decay_share}
        why = f"{name} adds weight decay to the gradient after it was clipped, so clipping multiplies the decay."
        fix = "optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)  # decay apart from the gradient"
        verdict: Verdict = "note" if learnt else "warn"
        return Finding("clipping", verdict, title, evidence, why, *(() if learnt else (fix, experiment)))
    if clips.share <= CLIPPED_WARN:
        return Finding("clipping", "pass", title, evidence)
    if free:
        why = (
            f"{name} divides each gradient by its own size, so clipping is no smaller learning rate: once every step is "
            "clipped, the norm chosen does not matter. Only the weight of large batches against small ones changes."
        )
        return Finding("clipping", "note", title, evidence, why)
    if learnt or free is None:
        return Finding("clipping", "note", title, evidence, "Training does not suffer from it, as far as can be seen.")
    hard = clips.share > CLIPPED_FAIL and factor is not None and factor < COEFFICIENT_FAIL
    why = f"{name} takes steps as long as the gradient, so clipping is a smaller learning rate under another name."
    best = f"{clips.percentiles[1]:.2g}" if clips.percentiles else "float('inf')"
    fix = f"torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm={best})  # the 90th percentile"
    return Finding("clipping", "fail" if hard else "warn", title, evidence, why, fix, experiment)


# --- Adam's epsilon -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NearEpsilon:
    """How Adam's second moments stand against its epsilon."""

    share: float
    """Of the elements that ever saw a gradient: root of the second moment under ten epsilon."""
    median: float
    """Of those roots."""
    epsilon: float


def near_epsilon(optimizer: Optimizer) -> NearEpsilon | None:
    """Weights of two and more dimensions: a bias before BatchNorm has a gradient of rounding errors. None of an optimiser
    without second moments and epsilon, or before its first step."""
    small, alive, roots, epsilons = 0, 0, [], []
    for group in optimizer.param_groups:
        for p in group["params"]:
            state = optimizer.state.get(p, {})
            if "exp_avg_sq" not in state or "eps" not in group or "betas" not in group or p.dim() < 2:
                continue
            moment = state.get("max_exp_avg_sq", state["exp_avg_sq"])
            if moment.shape != p.shape:  # factored, or of another kind
                continue
            root = (moment / (1 - group["betas"][1] ** float(state["step"]))).sqrt()
            root = root[(moment != 0) | (state["exp_avg"] != 0)]
            small, alive = small + int((root < NEAR_EPSILON * group["eps"]).sum()), alive + root.numel()
            if root.numel():
                roots.append(float(root.float().median()))
                epsilons.append(float(group["eps"]))
    return NearEpsilon(small / alive, median(roots), max(epsilons)) if alive else None


def epsilon_finding(near: NearEpsilon, learnt: bool | None, experiment: Experiment | None = None, fix: str = "") -> Finding:
    """``gradient-scale``, kind ``epsilon``."""
    evidence = {"kind": "epsilon", "share": near.share, "median_root": near.median, "epsilon": near.epsilon}
    evidence |= {"cutoff": [EPSILON_WARN, EPSILON_FAIL], "source": "Adam's update, m / (sqrt(v) + eps)"}
    title = f"{percent(near.share)} of the weights have gradients under ten times Adam's epsilon of {near.epsilon:g}."
    if near.share <= EPSILON_WARN:
        return Finding("gradient-scale", "pass", title, evidence)
    why = "Epsilon was meant to avoid a division by zero; where it is larger than the gradients, it makes every step shorter."
    if learnt is not False:
        return Finding("gradient-scale", "note", title, evidence, why)
    fix = fix or f"optimizer.param_groups[0]['eps'] = {near.median * 1e-3:.0e}"
    return Finding("gradient-scale", "fail" if near.share > EPSILON_FAIL else "warn", title, evidence, why, fix, experiment)


# --- update over weight -------------------------------------------------------------------------------------------------


def median_ratios(ratios: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """By parameter: median over the steps of the norm of its change over its norm. Weights that are 0 are left out."""
    found: dict[str, list[float]] = {}
    for step in ratios:
        for name, ratio in step.items():
            if not math.isnan(ratio):
                found.setdefault(name, []).append(ratio)
    return {name: median(values) for name, values in found.items()}


def ratio_evidence(ratios: Mapping[str, float], steps: Sequence[Mapping[str, float]] = ()) -> dict[str, Any]:
    """Log10 of the medians: of all layers, the last and the others, the extremes by name, and of the first three steps."""
    log = {name: _log10(ratio) for name, ratio in ratios.items()}
    names = list(log)
    head, body = names[-1], [log[name] for name in names[:-1]]
    least, most = min(log, key=log.__getitem__), max(log, key=log.__getitem__)
    early = [_log10(ratio) for step in steps[:3] for ratio in step.values() if not math.isnan(ratio)]
    return {
        "median_log10": median(log.values()), "head_log10": log[head], "body_log10": median(body) if body else None,
        "early_log10": median(early) if early else None, "head": head,
        "smallest": [least, log[least]], "largest": [most, log[most]],
    }  # fmt: skip


def _log10(ratio: float) -> float:
    return math.log10(ratio) if 0 < ratio < math.inf else math.copysign(math.inf, ratio - 1)


def ratio_finding(
    evidence: Mapping[str, Any], kind: str | None, verdict: Verdict, factor: float = 1.0, experiment: Experiment | None = None
) -> Finding:
    """``update-ratio``. Kind ``too-small`` or ``too-large``, and what to multiply the learning rate with."""
    evidence = dict(evidence) | {"cutoff": [SMALL_WARN, SMALL_FAIL, LARGE], "source": "cs231n, TheDeepChecker"}
    title, early = (
        f"A step changes the median layer by 10^{evidence['median_log10']:.1f} of its weights",
        evidence["early_log10"],
    )
    title += f", one of the first by 10^{early:.1f}." if kind == "too-large" and early is not None else "."
    if kind is None:
        return Finding("update-ratio", verdict, title, evidence)
    evidence["kind"] = kind
    why = (
        "At this pace a weight needs thousands of steps."
        if kind == "too-small"
        else "Each step undoes what the last ones learnt."
    )
    if verdict == "note":
        return Finding(
            "update-ratio", verdict, title, evidence, "The loss does not suffer from it, or a schedule accounts for it."
        )
    fix = f"for group in optimizer.param_groups:\n    group['lr'] *= {factor:.2g}"
    return Finding("update-ratio", verdict, title, evidence, why, fix, experiment)


def rate_factor(level: float) -> float:
    """What to multiply the learning rate with, so that a step comes to 10^-2 of the weights: 10^-1.4 to 10^-2.6 in healthy
    networks of some thousand parameters in their first hundred steps."""
    return 10.0 ** (-2 - min(max(level, -8), 6))


# --- dead channels ------------------------------------------------------------------------------------------------------


def is_rectifier(module: nn.Module) -> bool:
    """Does it give exact zeros?"""
    return isinstance(module, RECTIFIERS) and not (type(module) is nn.Hardtanh and module.min_val != 0)


def dead_share(output: Tensor, *, channels_last: bool = False) -> tuple[Tensor, int] | None:
    """Number of channels that are zero everywhere in the batch, on the output's device, and of all channels; None where a
    channel has too few places to tell, as behind the pooling of a squeeze-and-excitation block.

    Shape:
        output: (B, C, ...); with ``channels_last`` (B, ..., C).
    """
    channel = output.dim() - 1 if channels_last else 1
    if output.dim() < 2 or output.numel() < PLACES * output.shape[channel]:
        return None
    alive = output.detach().amax([d for d in range(output.dim()) if d != channel]) > ZERO
    return (~alive).sum(), alive.numel()


def dead_finding(layers: Mapping[str, tuple[int, int]], learnt: bool | None, experiment: Experiment | None = None) -> Finding:
    """``dead-channels`` of hidden layers: name -> dead and all channels."""
    dead, whole = (sum(pair[i] for pair in layers.values()) for i in (0, 1))
    worst = max(layers, key=lambda name: layers[name][0] / layers[name][1])
    share, of_worst = dead / whole, layers[worst][0] / layers[worst][1]
    evidence = {"share": share, "channels": whole, "worst_layer": worst, "worst_share": of_worst}
    evidence |= {"cutoff": [DEAD_LAYER, DEAD], "source": "SageMaker Debugger, DeadRelu"}
    title = (
        f"{layers[worst][0]} of {layers[worst][1]} channels of {worst} are zero everywhere, {percent(share)} of all channels."
    )
    if of_worst <= DEAD_LAYER:
        return Finding("dead-channels", "pass", title, evidence)
    blocked = share > DEAD or (of_worst > DEAD and layers[worst][1] >= WIDE)
    if learnt or not (blocked or share > DEAD_LAYER):
        return Finding("dead-channels", "note", title, evidence, "The network has to do with the others.")
    why = "Behind a ReLU that is zero everywhere no gradient comes back: such a channel does not recover."
    fix = "layer.reset_parameters()  # of what stands before " + worst + ", with a smaller learning rate; or nn.LeakyReLU(0.1)"
    return Finding("dead-channels", "fail" if blocked else "warn", title, evidence, why, fix, experiment)
