"""Checks of what the log says about the steps: learning rate, clipping, size of the gradients."""

from typing import Any

import numpy as np

from ..finding import Experiment, Finding
from .case import LogCase, unmeasured
from .trend import FEWEST_ROWS

GONE = 0.01
"""Share of the peak below which a learning rate trains no more."""
EARLY = 0.5
"""Share of the run before which it should not be gone."""
WARM_UP = 0.1
"""Share of the run that warm-up usually takes at most (Deep Learning Tuning Playbook). One-cycle schedules take 0.3."""
TINY_RATE = 1e-6
"""With Adam a weight moves by about the learning rate a step: 10,000 steps at this rate move it by 0.01 at most."""
ROUNDING = 1e-5
"""mmcv 1.x rounds every number of its .log.json to five decimals."""
CLIPPED_WARN, CLIPPED_FAIL = 0.5, 0.9
"""Share of clipped steps with SGD: over 50 % is "extremely aggressive" (Deep Learning Tuning Playbook)."""
CERTAIN = 10.0
"""A window whose mean norm is that many times the limit holds hardly a step under it."""
VANISHED = 1e-6
"""Norm of the whole gradient (SageMaker Debugger: mean |g| under 1e-7)."""
MOVED = 0.05
"""Share of the first loss that must be gone for small gradients to be those of a trained network."""


def schedule(c: LogCase) -> Finding:
    """The learning rate: how long it warms up, when it is gone, what it is where the loss settled."""
    if c.rate is None or len(c.rate.value) < 2:
        return unmeasured("schedule", "The log holds no learning rate.")
    step, rate = c.rate.step, c.rate.value
    peak = float(rate.max())
    rounded = _rounded(c, rate)
    evidence: dict[str, Any] = {"peak": peak, "last": float(rate[-1]), "rounded": rounded, "cutoff": [GONE, EARLY, WARM_UP]}
    evidence["source"] = "Deep Learning Tuning Playbook"
    if peak <= 0:
        if rounded:
            return unmeasured("schedule", "The learning rate is logged as 0: this format rounds it to five decimals.")
        if c.trend is None or not c.trend.stuck:
            return unmeasured("schedule", "The learning rate is logged as 0, and yet the loss moves.")
        fix = "for group in optimizer.param_groups:\n    group['lr'] = 1e-3"
        experiment = Experiment("Set the learning rate to 1e-3", "the loss after 200 steps", 0.0, 0.97 * abs(c.trend.level))
        return Finding("schedule", "fail", "The learning rate is 0 in every row.", evidence, "No step moves.", fix, experiment)
    length = max(c.length - int(step[0]), 1)
    low = np.flatnonzero(rate >= GONE * peak)[-1] + 1  # from this row on it stays under 1 % of the peak
    gone = float((step[low] - step[0]) / length) if low < len(rate) else 1.0
    top = float((step[int(np.argmax(rate >= 0.99 * peak))] - step[0]) / length)
    evidence |= {"gone_after": gone, "warm_up": top}
    if c.trend is not None and c.trend.state == "settled":
        evidence["at_plateau"] = float(np.median(rate[-max(len(rate) // 4, 1) :]))
    if gone < EARLY and len(rate) >= FEWEST_ROWS and not (rounded and GONE * peak < 2 * ROUNDING):
        title = f"The learning rate is under 1 % of its peak of {peak:.3g} after {gone:.0%} of the run, and stays there."
        why = "From there on nothing is learnt: the loss stops because the steps do, not because the network is done."
        fix = f"scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max={length})"
        level = abs(c.trend.level) if c.trend else 1.0
        experiment = Experiment("Let the schedule last the whole run", "the loss at the end", 0.0, 0.97 * level)
        return Finding("schedule", "warn", title, evidence, why, fix, experiment)
    if not rounded and peak < TINY_RATE and c.trend is not None and c.trend.state == "settled" and abs(c.trend.fallen) < MOVED:
        title = f"The learning rate never exceeds {peak:.2g}, and the loss has not moved."
        fix = "for group in optimizer.param_groups:\n    group['lr'] = 1e-4"
        why = "With Adam a weight moves by about the learning rate a step."
        experiment = Experiment("Raise the learning rate to 1e-4", "the loss after 200 steps", 0.0, 0.97 * abs(c.trend.level))
        return Finding("schedule", "warn", title, evidence, why, fix, experiment)
    if WARM_UP + 0.01 < top < 1 and rate[0] < 0.5 * peak and len(rate) >= FEWEST_ROWS:
        title = f"The learning rate reaches its peak of {peak:.3g} after {top:.0%} of the run; 10 % is usual."
        return Finding("schedule", "note", title, evidence, "Longer warm-up is slow, not wrong; one-cycle schedules take 30 %.")
    return Finding("schedule", "pass", f"The learning rate peaks at {peak:.3g} and ends at {rate[-1]:.3g}.", evidence)


def clipping(c: LogCase) -> Finding:
    """How many steps were clipped, and does it matter?"""
    coefficient = c.log.training.get("clip_coefficient")  # our own runs
    limit = c.log.settings.clip_norm
    if coefficient is not None and len(coefficient.value):
        least = most = float((coefficient.value < 1).mean())
        nearly_all = least > CLIPPED_FAIL
    elif limit is None or not limit > 0:
        return unmeasured("clipping", "The log does not say at which norm gradients are clipped.")
    elif c.norm is None:
        return unmeasured("clipping", "The log holds no gradient norm.")
    else:
        least, most, nearly_all = clipped_share(c.norm.value, limit, c.log.window)
    optimizer = (c.log.settings.optimizer or "").lower()
    evidence = {"at_least": least, "at_most": most, "nearly_all": nearly_all, "clip_norm": limit, "window": c.log.window}
    if c.norm is not None:
        evidence |= {"p50": float(np.median(c.norm.value)), "p90": float(np.percentile(c.norm.value, 90))}
    evidence |= {"cutoff": [CLIPPED_WARN, CLIPPED_FAIL], "source": "Deep Learning Tuning Playbook; Markov's inequality"}
    share = max(least, 0.99 if nearly_all else 0.0)
    at = f"the clipping norm of {limit:.3g}" if limit else "the clipping norm"
    said = f"{least:.0%}" if least == most else "Nearly all" if nearly_all else f"Between {least:.0%} and {most:.0%}"
    title = f"{said} of the gradient norms are above {at}."
    if share <= CLIPPED_WARN:
        return Finding("clipping", "pass", title, evidence)
    if "adam" in optimizer or "lamb" in optimizer or "lion" in optimizer:
        why = "Adam divides a step by the gradient's own size: once every step is clipped, the limit changes nothing. It is no "
        return Finding("clipping", "note", title, evidence, why + "lower learning rate, and lifting it is no cure.")
    if not optimizer.startswith("sgd"):
        why = "With SGD that is a lower learning rate in disguise; with Adam it changes little. The log names no optimiser."
        return Finding("clipping", "note", title, evidence, why)
    progress = c.trend is not None and c.trend.fallen > 0.5
    verdict = "fail" if share > CLIPPED_FAIL and not progress else "note" if progress else "warn"
    why = "SGD then takes steps of one length, whatever the gradient: the limit is the learning rate."
    target = float(np.percentile(c.norm.value, 90)) if c.norm is not None else 10 * (limit or 1.0)
    fix = f"torch.nn.utils.clip_grad_norm_(model.parameters(), {target:.3g})  # the 90th percentile of the norms"
    experiment = Experiment(f"Clip at {target:.3g} instead", "the share of clipped steps", 0.0, 0.3)
    return Finding(
        "clipping", verdict, title, evidence, why, "" if verdict == "note" else fix, experiment if verdict != "note" else None
    )


def clipped_share(norm: np.ndarray, limit: float, window: int | None) -> tuple[float, float, bool]:
    """Lowest and highest share of clipped steps, and whether it is nearly all of them, from norms before clipping.

    A mean m over a window bounds it only: at most m / limit of the window by Markov's inequality, and at least one step of it
    where m is above the limit.
    """
    above = norm > limit
    if window == 1:
        share = float(above.mean())
        return share, share, share > CLIPPED_FAIL
    least = float(above.mean()) / window if window else 0.0
    nearly_all = bool((norm >= CERTAIN * limit).mean() > 0.5)
    return least, float(np.minimum(norm / limit, 1).mean()), nearly_all


def gradient_scale(c: LogCase) -> Finding:
    """Gradients too small to be any."""
    if c.norm is None or len(c.norm.value) < FEWEST_ROWS:
        return unmeasured("gradient-scale", "The log holds no gradient norms, or fewer than 20.")
    typical = float(np.median(c.norm.value))
    evidence = {"median": typical, "first": float(c.norm.value[0]), "cutoff": VANISHED, "source": "SageMaker Debugger"}
    title = f"The median gradient norm is {typical:.3g}."
    if typical > VANISHED or c.trend is None or c.trend.fallen > MOVED:
        return Finding("gradient-scale", "pass", title, evidence)
    why = (
        "Nothing comes back from the loss: a saturated or dead output, a detached tensor, or one that Adam's epsilon swallows."
    )
    fix = "for name, parameter in model.named_parameters():\n    print(name, parameter.grad if parameter.grad is None else "
    fix += "parameter.grad.norm())"
    change = "Initialise the last layer anew and let it return logits"
    experiment = Experiment(change, "the gradient norm of the first step", 1e-4, 1e4)
    return Finding("gradient-scale", "fail", f"{title} The loss has not moved.", evidence, why, fix, experiment)


def _rounded(c: LogCase, rate: np.ndarray) -> bool:
    """Are all rates whole multiples of 1e-5, in a format that rounds?"""
    whole = np.abs(rate / ROUNDING - np.round(rate / ROUNDING)) < 1e-6
    return "json" in c.log.format and bool(whole.all())


CHECKS = (schedule, clipping, gradient_scale)
