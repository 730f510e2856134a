"""Checks of the training step: how far it moves the weights, and what stands in its way.

The verdicts on numbers are in :mod:`.verdicts`, shared with :mod:`..watch`; here the numbers are measured. A suspicion
about the optimiser is told only where another run on the same batch does better.
"""

import math
from collections.abc import Callable
from statistics import median

import torch
from torch.optim import Optimizer

from ..finding import Experiment, Finding
from ..subject import Probe, Subject
from .layers import dead_channels, silent_option
from .parameters import frozen_parameters, schedule, unchanged_parameters
from .verdicts import (
    CLIPPED_WARN,
    EPSILON_WARN,
    LARGE,
    ROSE,
    SMALL_FAIL,
    SMALL_WARN,
    STILL,
    Clips,
    clipping_finding,
    coupled_decay,
    epsilon_finding,
    learnt,
    least_loss,
    median_ratios,
    near_epsilon,
    rate_factor,
    ratio_evidence,
    ratio_finding,
    scale_free,
)

BEHIND = 0.2
"""The given optimiser is behind where its loss falls by less than this share of the reference's fall."""
KEEPS_UP = 0.5
"""It keeps up with at least this share."""
HELPS = 1.25
"""A change helps where the loss then falls by 1.25 times as much; a smaller rate, where 1.25 times less of it is left."""
FEWEST = 5
"""Steps that say something."""


def clipping(s: Subject) -> Finding:
    """Does the clipping norm take the learning rate away?"""
    if s.clip_norm is None:
        return Finding("clipping", "not-measurable", "No clipping norm was given.")
    probe, norms = s.own, [n for n in s.own.norms if math.isfinite(n)]
    if len(norms) < FEWEST:
        return Finding("clipping", "not-measurable", f"{len(norms)} finite gradient norms are too few.")
    clips, free = Clips.of(norms, s.clip_norm), scale_free(probe.optimizer)
    if clips.share <= CLIPPED_WARN or (free is not False and not coupled_decay(probe.optimizer)):
        return clipping_finding(clips, probe.optimizer, None)
    fine = learnt(s, probe.losses[0]) or _fall(probe) >= KEEPS_UP * _fall(s.reference)
    quantity = f"loss after {s.steps} steps"
    if free:
        decay_share = coupled_decay(probe.optimizer) * _weight_norm(s) / s.clip_norm
        high = 0.5 * (probe.end + s.reference.end)

        def without_decay() -> float:
            return again(s, lambda group: group.update(weight_decay=0.0)).end

        experiment = Experiment(
            "Take the decay out of the gradient", quantity, least_loss(s), high, lambda: (probe.end, without_decay())
        )
        return clipping_finding(clips, probe.optimizer, fine, decay_share=decay_share, experiment=experiment)
    if not fine:
        unclipped = _fall(again(s, clip_norm=None))
        fine = not unclipped > max(HELPS * _fall(probe), STILL * abs(probe.losses[0]))
    if fine:
        return clipping_finding(clips, probe.optimizer, True)
    best = clips.percentiles[1] if clips.percentiles else None
    experiment = Experiment(
        f"Clip at {best:.3g}, the 90th percentile", quantity, least_loss(s), probe.losses[0] - 0.5 * unclipped,
        lambda: (probe.end, again(s, clip_norm=best).end),
    )  # fmt: skip
    return clipping_finding(clips, probe.optimizer, False, experiment=experiment)


def gradient_scale(s: Subject) -> Finding:
    """Are gradients so small that Adam's epsilon is the larger part of its divisor?"""
    near, probe = near_epsilon(s.own.optimizer), s.own
    if near is None:
        return Finding("gradient-scale", "not-measurable", f"{type(probe.optimizer).__name__} has no epsilon beside moments.")
    if not near.share > EPSILON_WARN or learnt(s, probe.losses[0]):
        return epsilon_finding(near, None)
    other = again(s, lambda group: group.update(eps=1e-15))
    fall = _fall(other)
    if not fall > max(HELPS * _fall(probe), STILL * abs(probe.losses[0])):
        return epsilon_finding(near, None)  # it costs nothing
    low, high = max(least_loss(s), other.end - 0.5 * fall), other.end + 0.5 * fall
    quantity = f"loss after {s.steps} steps"
    if near.epsilon > 1e-6 or s.clip_norm is not None:
        epsilon = min(1e-8, 1e-3 * near.median)
        fix = f"for group in optimizer.param_groups:\n    group['eps'] = {epsilon:.0e}"
        experiment = Experiment(
            f"Lower epsilon to {epsilon:.0e}", quantity, low, high,
            lambda: (probe.end, again(s, lambda group: group.update(eps=epsilon)).end),
        )  # fmt: skip
    else:
        factor = 10.0 ** math.ceil(math.log10(1e3 * near.epsilon / max(near.median, 1e-30)))
        fix = f"({factor:g} * loss).backward()  # or a mean where the loss divides by too much"
        experiment = Experiment(
            f"Multiply the loss by {factor:g}", f"{quantity}, divided by that", low, high,
            lambda: (probe.end, again(s, factor=factor).end / factor),
        )  # fmt: skip
    return epsilon_finding(near, False, experiment, fix)


def update_ratio(s: Subject) -> Finding:
    """How far does a step move each layer, and does that do any good?"""
    probe, ratios = s.own, median_ratios(s.own.ratios)
    if not ratios:
        return Finding("update-ratio", "not-measurable", "No weight that is not 0 made a step.")
    start, evidence = probe.losses[0], ratio_evidence(ratios, probe.ratios)
    evidence |= {"first": start, "highest": max(probe.losses), "end": probe.end, "reference_end": s.reference.end}
    fall, possible = _fall(probe), _fall(s.reference)
    level, early, end = evidence["median_log10"], evidence["early_log10"], _settled(probe)
    rose = not all(x <= start + (ROSE - 1) * abs(start) for x in probe.losses)
    kept = learnt(s, start) and learnt(s, end) and (s.by_class or s.skill(start) - s.skill(end) < 0.25)
    if (rose or early > LARGE) and not kept:
        factor = rate_factor(early if early > LARGE else level)
        slower = again(s, rate=factor)
        other, left = _fall(slower), probe.end - least_loss(s)
        better = not math.isfinite(left) or slower.end - least_loss(s) < left / HELPS
        if better and other > STILL * abs(start):
            return ratio_finding(evidence, "too-large", "fail", factor, _at_other_rate(s, factor, fall, other))
        return ratio_finding(evidence, "too-large", "note", factor)
    teaches = possible > STILL * abs(start)
    if not (teaches and level < SMALL_WARN and fall < BEHIND * possible) or learnt(s, start):
        return ratio_finding(evidence, None, "pass")
    factor = rate_factor(level)
    if _warming_up(probe):
        return ratio_finding(evidence, "too-small", "note", factor)
    verdict = "fail" if level < SMALL_FAIL else "warn"
    return ratio_finding(evidence, "too-small", verdict, factor, _at_other_rate(s, factor, fall, possible))


def _at_other_rate(s: Subject, factor: float, fall: float, other: float) -> Experiment:
    """Predicts that the loss falls by more than halfway from its own fall to another run's."""
    most = s.own.losses[0] - 0.5 * (max(fall, 0.0) + other)
    return Experiment(
        f"Multiply the learning rate by {factor:.2g}", f"loss after {s.steps} steps", least_loss(s), most,
        lambda: (s.own.end, again(s, rate=factor).end),
    )  # fmt: skip


def _warming_up(probe: Probe) -> bool:
    """Does the rate rise, or is it far from where a scheduler began? At the start as at the end of a schedule it is small."""
    first, last = max(probe.rates[0]), max(probe.rates[-1])
    initial = max(float(group.get("initial_lr", 0.0)) for group in probe.optimizer.param_groups)
    return last > 1.1 * first or last < 0.1 * initial


def _fall(probe: Probe) -> float:
    """By how much the loss fell; -inf where it did not stay finite."""
    return probe.losses[0] - probe.end if math.isfinite(probe.end) else -math.inf


def _settled(probe: Probe) -> float:
    return median(probe.losses[-5:]) if math.isfinite(probe.end) else math.nan


def _weight_norm(s: Subject) -> float:
    return math.sqrt(sum(float(p.detach().float().square().sum()) for p in s.model.parameters() if p.requires_grad))


def again(
    s: Subject, change: Callable[[dict], None] = lambda group: None, *, rate: float = 1.0, factor: float = 1.0,
    clip_norm: float | None = math.nan,
) -> Probe:  # fmt: skip
    """The given steps with one thing changed: the groups' options, the rate, a factor before the loss, the clipping norm."""
    model, optimizer, scheduler = s.copies()
    optimizer = optimizer or _like(s.own.optimizer, model)
    for group in optimizer.param_groups:
        change(group)
        for name in ("lr", "initial_lr"):
            if name in group:
                group[name] = group[name] * rate
    if hasattr(scheduler, "base_lrs"):
        scheduler.base_lrs = [base * rate for base in scheduler.base_lrs]
    clip = s.clip_norm if clip_norm is not None and math.isnan(clip_norm) else clip_norm
    return s.train(model, optimizer, scheduler, clip, loss=lambda output, target: factor * s.value(output, target))


def _like(optimizer: Optimizer, model: torch.nn.Module) -> Optimizer:
    """A fresh one with the options of another."""
    return type(optimizer)([p for p in model.parameters() if p.requires_grad], lr=optimizer.defaults["lr"])


STRUCTURE = (frozen_parameters, schedule, dead_channels)
PROBES = (unchanged_parameters, clipping, gradient_scale, update_ratio, silent_option)
