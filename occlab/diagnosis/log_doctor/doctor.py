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
from .readings import Family
from .runs import silent_option, too_few_seeds
from .trend import thinned

POINTS = 2000
"""Of a drawn curve."""
FLOORS = 6
"""Lines drawn into it."""

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
    """The loss, thinned, and the floors that fit its plateau."""
    curves: dict[str, Any] = {}
    if case.loss is not None:
        step, value = thinned(case.loss.step, case.loss.value, POINTS)
        curves["loss"] = (step.tolist(), value.tolist())
        curves["floors"] = {f"{r.reading} ({r.assumes})": r.value for r in case.readings[:FLOORS]}
    return curves
