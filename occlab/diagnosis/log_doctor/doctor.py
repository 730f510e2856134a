"""The doctor on training logs: every check that a log allows, and one root cause."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..finding import CAUSES, Finding, Report, ranked
from ..logs.log import TrainingLog
from ..report.wording import clean
from . import checks, floors, metrics, steps
from .case import LogCase, unmeasured
from .floors import stated_from
from .readings import BASE_RATE, HALF, Family, in_short, rungs
from .runs import silent_option, too_few_seeds
from .trend import thinned

POINTS = 2000
"""Of a drawn curve."""

CHECKS: tuple[Callable[[LogCase], Finding], ...] = (
    *checks.CHECKS,
    *steps.CHECKS,
    *floors.CHECKS,
    *metrics.CHECKS,
)

NEEDS = "Not in a log: run occlab.diagnose(model, batch, loss)."


def diagnose_log(
    log: TrainingLog,
    *,
    positive_rate: float | None = None,
    loss: Family | None = None,
    dice_weight: float | None = None,
    pos_weight: float | None = None,
    others: Sequence[TrainingLog] = (),
) -> Report:
    """What a training log says about what is wrong, and what it cannot say.

    Args:
        log: as :func:`occlab.diagnosis.logs.read_log` returns it.
        positive_rate: share of occupied cells among those that count in the loss, in (0, 1). With it and the loss the floors
            are known, and a plateau at one of them fails; without, every reading that fits is listed.
        loss: ``"bce"``, ``"bce+dice"``, ``"focal"`` (alpha 0.25, gamma 2) or ``"dice"``; by default what the log says.
        dice_weight: of the Dice term beside the cross-entropy.
        pos_weight: weight of occupied cells in the cross-entropy.
        others: more runs to compare with, such as those of other seeds; they are not examined themselves.

    Raises:
        OcclabError: a rate or weight out of its range, or one that the loss does not have.
    """
    case = LogCase(log, stated_from(positive_rate, loss, dice_weight, pos_weight))
    logs = (log, *others)
    found = []
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for check in CHECKS:
            try:
                found.append(check(case))
            except (ArithmeticError, ValueError, IndexError) as error:  # numbers near the end of float64, from any file
                id = check.__name__.replace("_", "-")
                found.append(unmeasured(id, f"The numbers of this log cannot be computed with: {clean(error, 100)}"))
        found += [silent_option(case, logs), too_few_seeds(logs)]
        curves = _curves(case)
    done = {finding.id for finding in found}
    found += [unmeasured(id, NEEDS) for id in CAUSES if id not in done]
    return ranked(found, case.name if not others else f"{case.name}, the newest of {len(logs)} runs", curves)


def _curves(case: LogCase) -> dict[str, Any]:
    """How the log was read, the loss, thinned, and the floors beside it."""
    curves: dict[str, Any] = {"read": _read(case.log)}
    if case.loss is not None:
        step, value = thinned(case.loss.step, case.loss.value, POINTS)
        step[[0, -1]], value[0] = case.loss.step[[0, -1]], case.loss.value[0]  # where it began and ended, no block's mean
        curves["loss"] = (step.tolist(), value.tolist())
        curves["floors"] = _floors(case)
    return curves


def _floors(case: LogCase) -> dict[str, float]:
    """Lines to draw: the ladder of a loss that is known, else one line for all readings of the plateau."""
    known, level = case.known, case.trend.level if case.trend else 0.0
    if known.whole and known.positive_rate is not None:
        shown = {in_short(HALF), in_short(BASE_RATE), *(in_short(r.reading) for r in case.readings)}
        ladder = rungs(known, known.positive_rate)
        return {in_short(n): min(max(level, low), high) for n, low, high, _ in ladder if in_short(n) in shown}
    if not case.readings:
        return {}
    first, others = case.readings[0], len(case.readings) - 1
    return {in_short(first.reading) + (f" or {others} other{'s' * (others > 1)}" if others else ""): first.value}


def _read(log: TrainingLog) -> list[str]:
    """How the log was read: a wrong reading of it is the first thing to rule out."""
    loss = log.training.get("loss")
    steps = f", steps {loss.step[0]:,} to {loss.step[-1]:,}" if loss is not None and len(loss.step) else ""
    restarts = f", {len(log.restarts)} restart{'s' * (len(log.restarts) > 1)}" if log.restarts else ""
    return [f"{log.format}, {log.rows:,} rows{steps}{restarts}.", *log.notes]
