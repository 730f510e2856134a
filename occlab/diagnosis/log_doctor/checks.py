"""Checks of a logged loss curve: numbers that are none, spikes, divergence, a loss that cannot move, one that is not done."""

import numpy as np
from scipy.ndimage import median_filter

from ..finding import Experiment, Finding
from ..report.wording import clean
from .case import LogCase, unmeasured
from .trend import FEWEST_ROWS, deviation, smoothed

SKIPPED = 0.01
"""Share of skipped steps after the warm-up of the loss scale. torch.amp.GradScaler tries a larger scale every 2000 steps, so
that one step in 2000 is skipped in a healthy run."""
SPIKE_Z, SPIKES = 8.0, 3
"""Robust deviations above the neighbouring rows, and how many such rows (survey of training tools: 3.5 to 8, 3)."""
SPIKE_HEIGHT = 2.0
"""A spike at least doubles the loss."""
DIVERGED = 2.0
"""End over minimum (TheDeepChecker's divergence)."""
GAIN = 0.02
"""Predicted gain of going on that is worth naming."""
CONSTANT = 1e-4
"""Relative range of a loss that cannot move; noise of batches is a hundred times that."""
DOMINANT = 0.95
"""Share of a term in the sum, from start to end."""

CLIP = "torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)"


def non_finite(c: LogCase) -> Finding:
    """Losses or gradients that are no numbers."""
    loss, norm = c.log.training.get("loss"), c.log.training.get("gradient_norm")
    if loss is None and norm is None:
        return unmeasured("non-finite", "The log holds neither a loss nor a gradient norm.")
    bad = np.flatnonzero(~np.isfinite(loss.value)) if loss is not None else np.zeros(0, int)
    if len(bad):
        step, share = int(loss.step[bad[0]]), len(bad) / len(loss.value)
        title = f"The loss is not a number from step {step} on, in {len(bad)} of {len(loss.value)} rows."
        evidence = {"rows": len(bad), "share": share, "first_step": step, "cutoff": 0, "source": "IEEE 754"}
        why = "A NaN spreads to every weight with the next update; what follows trains nothing."
        fix = f"torch.autograd.set_detect_anomaly(True)  # names the operation\n{CLIP.replace('max_norm', '1.0')}"
        change = f"Start again from a checkpoint before step {step} with a tenth of the learning rate"
        experiment = Experiment(change, "the number of rows that are not finite", 0, 0)
        return Finding("non-finite", "fail", title, evidence, why, fix, experiment)
    if norm is None:
        return Finding("non-finite", "pass", f"All {len(loss.value)} logged losses are finite.", {"rows": 0})
    late = norm.value[len(norm.value) // 10 :]  # the loss scale finds its place in the first tenth
    rows = int((~np.isfinite(late)).sum())
    window = c.log.window
    share = rows / max(len(late), 1)
    least = share / (window or 50)  # one NaN in a window makes its mean NaN
    evidence = {"rows": rows, "share_of_rows": share, "share_of_steps_at_least": least}
    evidence |= {"cutoff": SKIPPED, "source": "torch.amp.GradScaler"}
    if not rows:
        return Finding("non-finite", "pass", "Losses and gradient norms are finite.", evidence)
    title = f"The gradient norm is not a number in {rows} of {len(late)} rows, the loss is: steps skipped by mixed precision."
    if least <= SKIPPED and share <= 0.5:
        return Finding("non-finite", "note", title, evidence, "Some are normal: the loss scale is found by trying.")
    why = "A skipped step trains nothing. So many of them mean that gradients overflow in half precision at any scale."
    fix = 'with torch.autocast("cuda", dtype=torch.bfloat16):  # the range of float32, no loss scale'
    fix += "\n    value = loss(model(inputs), target)"
    experiment = Experiment("Train in bfloat16 or float32", "the share of rows whose norm is not a number", 0, 0)
    return Finding("non-finite", "warn", title, evidence, why, fix, experiment)


def spikes(c: LogCase) -> Finding:
    """Rows that stand out above their neighbours."""
    if c.trend is None:
        return c.too_short("spikes")
    value = c.loss.value
    if value.min() <= 0:
        return unmeasured("spikes", "The loss is not positive everywhere, so that its jumps have no ratio.")
    rest = np.log(value) - median_filter(np.log(value), size=11, mode="nearest")
    blocks = np.array_split(rest, max(1, min(10, len(rest) // 50)))
    z = np.concatenate([block / max(deviation(block), 1e-4) for block in blocks])
    high = value - np.exp(np.log(value) - rest) > 0.05 * abs(c.trend.first - value.min())
    spike = (z > SPIKE_Z) & (rest > np.log(SPIKE_HEIGHT)) & high
    count = int((spike[1:] & ~spike[:-1]).sum() + spike[0])
    between = int(((z > SPIKE_Z / 2) & (z <= SPIKE_Z)).sum())
    evidence = {"spikes": count, "highest": float(np.exp(rest.max())), "rows_between": between}
    evidence |= {"cutoff": [SPIKE_Z, SPIKES], "source": "median absolute deviation of the log loss"}
    if count < SPIKES:
        return Finding("spikes", "pass", f"{count or 'No'} spike{'s' * (count != 1)} in {len(value)} rows.", evidence)
    if between > 2 * count:  # spikes stand apart from the noise; a heavy tail has all sizes
        return Finding("spikes", "note", f"The loss has a heavy tail: {count} of {len(value)} rows stand out.", evidence)
    step = int(c.loss.step[np.flatnonzero(spike)[0]])
    title = f"{count} spikes of the loss, up to {evidence['highest']:.1f} times the rows around it; the first at step {step}."
    norms = c.norm.value if c.norm is not None else np.zeros(0)
    limit = float(np.percentile(norms, 90)) if len(norms) else 1.0
    why = "A step went too far: the learning rate is too high for some batches, or their gradients are not clipped."
    experiment = Experiment("Clip at the 90th percentile of the gradient norm", "spikes in as many rows", 0, SPIKES - 1)
    return Finding("spikes", "warn", title, evidence, why, CLIP.replace("max_norm", f"{limit:.3g}"), experiment)


def diverged(c: LogCase) -> Finding:
    """Does the loss end far above where it had been?"""
    if c.trend is None:
        return c.too_short("diverged")
    blocks = smoothed(c.loss.value)
    lowest, end = float(blocks.min()), float(blocks[-2:].min())
    evidence = {"lowest": lowest, "end": end, "cutoff": DIVERGED, "source": "TheDeepChecker"}
    if c.loss.value.min() <= 0:
        return unmeasured("diverged", "The loss is not positive everywhere, so that its end has no ratio to its minimum.")
    scatter = deviation(np.diff(np.log(c.loss.value))) / np.sqrt(2) / np.sqrt(len(c.loss.value) / len(blocks))
    rise = np.log(end / lowest)
    up = end - lowest > 0.1 * abs(c.trend.first - lowest)
    if rise <= max(np.log(DIVERGED), 6 * 1.25 * scatter) or not up:
        return Finding("diverged", "pass", f"The loss ends at {end / lowest:.2f} times its minimum.", evidence)
    step = int(c.loss.step[min(len(c.loss.step) - 1, int((blocks.argmin() + 0.5) / len(blocks) * len(c.loss.step)))])
    title = f"The loss ends at {end:.4g}, {end / lowest:.1f} times the {lowest:.4g} that it had near step {step}."
    why = "The steps became too long for where the weights had got to; what was learnt is lost."
    rate = float(c.rate.value.max()) if c.rate is not None and c.rate.value.max() > 0 else None
    fix = f"for group in optimizer.param_groups:\n    group['lr'] = {rate / 3:.3g}" if rate else CLIP.replace("max_norm", "1.0")
    change = f"Go on from the checkpoint near step {step} with a third of the learning rate"
    return Finding("diverged", "fail", title, evidence, why, fix, Experiment(change, "the loss at the end", 0.0, 1.2 * lowest))


def not_finished(c: LogCase) -> Finding:
    """What would going on give?"""
    t = c.trend
    if t is None:
        return c.too_short("not-finished")
    steps = c.loss.step
    remaining = max((c.log.settings.total_steps or 0) - int(steps[-1]), 0)
    asked = max(int(steps[-1] - steps[-max(int(len(steps) * t.window), 10)]), 1)
    further = remaining or asked  # a run that is over: as much again as was looked at
    gain = -t.change / asked * min(further, asked) / max(abs(t.level), 1e-12) if t.state == "falling" else 0.0
    evidence = {"gain": gain, "remaining_steps": remaining, "cutoff": GAIN, "source": "slope times steps, at most the window's"}
    if t.state == "unclear":
        return unmeasured("not-finished", "The loss is too noisy to tell whether it is still falling.")
    if gain <= GAIN:
        return Finding("not-finished", "pass", "Going on promises less than 2 % of the loss.", evidence)
    title = f"The loss is still falling: {min(further, asked)} steps more promise up to {gain:.1%} of it, at this pace."
    return Finding("not-finished", "note", title, evidence, "What it will settle at cannot be said yet.")


def loss_normalisation(c: LogCase) -> Finding:
    """A loss that stays the same while gradients flow: one divided by itself."""
    if c.trend is None:
        return c.too_short("loss-normalisation")
    value = c.loss.value
    range_ = float((value.max() - value.min()) / max(abs(value.mean()), 1e-12))
    evidence = {"relative_range": range_, "level": float(value.mean()), "cutoff": CONSTANT}
    if range_ > CONSTANT:
        return Finding("loss-normalisation", "pass", f"The loss varies by {range_:.2g} of its level.", evidence)
    if c.norm is None or len(c.norm.value) < FEWEST_ROWS:
        return unmeasured("loss-normalisation", "The loss is constant, and without gradient norms nobody can say why.")
    typical, spread = float(np.median(c.norm.value)), deviation(c.norm.value)
    evidence |= {"gradient_norm": typical, "spread": spread, "source": "a constant has no gradient"}
    if typical < 1e-2 or spread < 0.05 * typical:
        return Finding("loss-normalisation", "pass", "The loss is constant, and so are its gradients.", evidence)
    title = f"The loss stays at {value.mean():.4g} in all {len(value)} rows while gradients of norm {typical:.3g} flow."
    why = "What is logged is divided by its own value, or is not what is differentiated: it says nothing of what is learnt."
    fix = "value = loss(model(inputs), target)  # not value / value.detach()\nvalue.backward()\nlog(value.item())"
    experiment = Experiment("Log the loss before it is normalised", "its relative range over 20 rows", 1e-3, 10.0)
    return Finding("loss-normalisation", "fail", title, evidence, why, fix, experiment)


def loss_term_dominance(c: LogCase) -> Finding:
    """One term that is the whole loss."""
    if c.loss is None or len(c.loss.value) < FEWEST_ROWS:
        return c.too_short("loss-term-dominance")
    if len(c.terms) < 2:
        return unmeasured("loss-term-dominance", "The log holds no terms of the loss.")
    terms = {name: np.interp(c.loss.step, curve.step, curve.value) for name, curve in c.terms.items()}
    total = np.sum(list(terms.values()), axis=0)
    if abs(float(np.median(total / c.loss.value)) - 1) > 0.02:
        return unmeasured("loss-term-dominance", "The logged terms do not add up to the loss: their weights are not known.")
    shares = {name: float(np.percentile(value / total, 5)) for name, value in terms.items()}
    name = max(shares, key=shares.__getitem__)
    evidence = {
        "term": clean(name, 80),
        "share": shares[name],
        "cutoff": DOMINANT,
        "source": "its sum",
    }
    title = f"{clean(name, 80)} is at least {shares[name]:.0%} of the loss in 95 % of the rows."
    verdict = "note" if shares[name] > DOMINANT else "pass"
    return Finding("loss-term-dominance", verdict, title, evidence, "Then the other terms hardly steer the weights they share.")


CHECKS = (non_finite, spikes, diverged, not_finished, loss_normalisation, loss_term_dominance)
