"""The scorecard: every claim and forecast of the analysis that started this course, and what the runs say to it.

Each row is computed from two tables of runs, ``five_fixes`` (the author's grid) and ``claims`` (every proposal alone and all
of them together, cells of 1.2 m). No figure in it is written by hand but the author's own.

How a verdict is reached, for each head by itself:

- a *proposal* claims to get the training off its plateau. Its measure is the gain in IoU on streets held out, paired by
  seed. ``supported``: the whole 95 % interval lies above :data:`WORTHWHILE` and the sign-flip test agrees; ``refuted``: the
  whole interval lies below it, so whatever the change does, it does not do that; else ``not decided``, as with fewer pairs than
  :data:`~occlab.ablation.statistics.FEWEST_PAIRS`.
- an *observation*, *check* or *forecast* names a range. ``supported``: the interval of the mean over the seeds lies inside it;
  ``refuted``: wholly outside; else ``not decided``.

The intervals are each row's own; among twenty rows about three are expected to miss: on six pairs a 95 % BCa interval
covers some 86 %.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..errors import OcclabError
from .rows import Row
from .statistics import FEWEST_PAIRS, Comparison, compare
from .table import by_arm

WORTHWHILE = 0.02
"""The smallest gain of IoU that counts as getting off the plateau, where the input itself scores about 0.2."""

Verdict = Literal["supported", "refuted", "not decided"]

BASE, ALL = "as it stood", "all of them"
HEADS = ("rectified", "logits")

PROPOSALS = {
    "a learning rate of 1e-3": "learning rate 1e-3",
    "a learning rate of 5e-4 with warm-up": "learning rate 5e-4 with warm-up",
    "ten times the rate for the refinement": "10 x the rate for the refinement",
    "clipping at norm 1": "clipping at 1",
    "clipping at norm 10": "clipping at 10",
    "a deeper network, 256 to 2048 channels": "deeper",
    "residual blocks": "residual blocks",
    "attention": "attention",
    "focal loss, alpha 0.25, gamma 2": "focal loss",
    "Dice weight 1": "Dice weight 1",
    "Dice weight 2": "Dice weight 2",
    "heavier low heights": "low heights weigh 3",
    "Kaiming initialisation": "Kaiming initialisation",
    "Xavier initialisation": "Xavier initialisation",
    "an output bias that predicts 0.1": "output bias for p = 0.1",
    "layer-wise learning rates": "layer-wise rates",
    "hard targets": "hard targets",
    "rotation of the frames": "rotations",
    "flips of the frames": "flips",
    "all of them together": ALL,
}
"""What was proposed -> its arm in ``notebooks/designs/claims.yaml``."""

OBSERVATIONS = {
    "the loss starts at 1.35": ("first_loss", 1.32, 1.38),
    "it settles at 1.19 to 1.20": ("settled_loss", 1.185, 1.205),
    "it falls by 11 %": ("reduction", 0.09, 0.13),
    "gradient norms of 0.0026 to 0.1925": ("gradient_norm_median", 0.0026, 0.1925),
}
"""What was seen -> measure, low, high; on the rectified head of the author's grid."""

CHECKS = {"a check of the voxel sizes: with cells of 1.2 m the loss leaves its floor": ("below its p = 1/2", 0.02, 1.0)}
"""What was proposed to look at -> measure, low, high; on the rectified head of the arm as it stood, whose cells in ``claims``
are twice as wide as the author's. Leaving the floor: 2 % or more below p = 1/2."""

FORECASTS = {
    "with all fixes the loss is 30 to 50 % lower": ("below its p = 1/2", 0.3, 0.5),
    "with all fixes gradient norms of 0.5 to 2": ("gradient_norm_late", 0.5, 2.0),
    "with all fixes a steady fall": ("late_fall", 0.02, 1.0),
}
"""What was forecast -> measure, low, high; of the arm with all fixes, both heads. A loss of another kind is no lower loss: the
first is measured against what p = 1/2 costs in the run's own loss. A steady fall: from its middle fifth to its last one
the loss falls by 2 % or more."""


@dataclass(frozen=True)
class Claim:
    """One row of the scorecard, for one head."""

    kind: Literal["observation", "proposal", "check", "forecast"]
    claim: str
    head: str
    measure: str
    value: float | None
    """Mean over seeds: a gain for a proposal, the measure itself otherwise."""
    low: float | None
    high: float | None
    """95 % interval of the mean, BCa; None with too few seeds."""
    n: int
    verdict: Verdict
    because: str


def scorecard(five_fixes: Sequence[Row], claims: Sequence[Row]) -> list[Claim]:
    """Every claim with its measured effect, interval and verdict.

    Args:
        five_fixes, claims: rows of the two designs, as :func:`~occlab.ablation.read_table` gives them.

    Raises:
        OcclabError: an arm that a claim needs is not in the table.
    """
    found = [
        _range_claim("observation", claim, "rectified", _arm(five_fixes, "rectified", "base"), *about)
        for claim, about in OBSERVATIONS.items()
    ]
    for claim, arm in PROPOSALS.items():
        for head in HEADS:
            found.append(_proposal(claim, head, _arm(claims, head, BASE), _arm(claims, head, arm)))
    for claim, about in CHECKS.items():
        found.append(_range_claim("check", claim, "rectified", _arm(claims, "rectified", BASE), *about))
    for claim, about in FORECASTS.items():
        for head in HEADS:
            found.append(_range_claim("forecast", claim, head, _arm(claims, head, ALL), *about))
    return found


def _proposal(claim: str, head: str, base: Sequence[Row], arm: Sequence[Row]) -> Claim:
    gain = compare(_values(base, "held_out_iou"), _values(arm, "held_out_iou"), higher_is_better=True)
    verdict, because = judge_gain(gain)
    return Claim(
        "proposal", claim, head, "gain in held-out IoU", gain.difference, gain.low, gain.high, gain.n, verdict, because
    )


def judge_gain(gain: Comparison) -> tuple[Verdict, str]:
    """The verdict on a claim that something helps, by the rule at the top."""
    if gain.difference is None or gain.n < FEWEST_PAIRS:
        return "not decided", gain.reason
    low, high = (gain.difference, gain.difference) if gain.low is None else (gain.low, gain.high)
    interval = f"the gain is {low:+.3f} to {high:+.3f}"
    if high < WORTHWHILE:
        return "refuted", f"{interval}, under {WORTHWHILE}"
    if low > WORTHWHILE and gain.verdict == "better":
        return "supported", f"{interval}, p = {gain.p:.2g}"
    return "not decided", f"{interval}, p = {gain.p:.2g}"


def _range_claim(kind: Any, claim: str, head: str, rows: Sequence[Row], measure: str, low: float, high: float) -> Claim:
    if measure == "below its p = 1/2":
        values = {seed: None if v is None else -v for seed, v in _values(rows, "floor_distance").items()}
    else:
        values = _values(rows, measure)
    mean = compare(dict.fromkeys(values, 0.0), values, higher_is_better=True)  # the interval of the mean itself
    about = (kind, claim, head, measure.replace("_", " "), mean.difference)
    if mean.difference is None or mean.n < FEWEST_PAIRS:
        return Claim(*about, None, None, mean.n, "not decided", mean.reason)
    lowest, highest = (mean.difference, mean.difference) if mean.low is None else (mean.low, mean.high)
    interval = f"the mean is {lowest:.3g} to {highest:.3g}, claimed {low:g} to {high:g}"
    if low <= lowest and highest <= high:
        verdict = "supported"
    else:
        verdict = "refuted" if highest < low or lowest > high else "not decided"
    return Claim(*about, mean.low, mean.high, mean.n, verdict, interval)


def _arm(rows: Sequence[Row], head: str, name: str) -> list[Row]:
    found = [row for row in rows if row["head"] == head and row["arm"].rpartition(": ")[2] == name]
    if not found:
        raise OcclabError(f"the table has no runs of arm {name!r} with head {head}, which the scorecard needs")
    return found


def _values(rows: Sequence[Row], measure: str) -> Mapping[int, float | None]:
    (values,) = by_arm(rows, measure).values()
    return {seed: value if value is not None and np.isfinite(value) else None for seed, value in values.items()}
