"""What a settled loss may mean: the losses of predictions that need no learning, in closed form.

Legend: pi is the share of occupied cells, p the probability predicted everywhere, w the weight of occupied cells
(``pos_weight``). A log does not hold the targets, so Dice is known between two ends: over all cells together,
1 - 2 p pi / (p + pi), and 1, which it nears where it is averaged over channels that are mostly empty.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ...errors import OcclabError

Family = Literal["bce", "bce+dice", "focal", "dice"]

DICE_WEIGHTS = (0.5, 1.0, 2.0)
POS_WEIGHTS = (2.0, 5.0, 10.0, 20.0)
FOCAL_ALPHAS = (0.25, 0.5, 0.75)
"""What is tried where the log does not say: the values found in public configurations of this field."""
CLASSES = frozenset((*range(3, 21), 23, 40, 80, 91, 100, 133, 150, 200, 1000))
"""Numbers of classes that data sets have; any other number would fit some loss."""
SPARSE = 0.1
"""Occupancy rates up to this are what street scenes have, whatever the grid (0.2 to 9 % over five data sets)."""
TOLERANCE = 0.01
"""A settled loss is at a floor where it is within 1 % of it, or within 3 standard errors; never further than 3 %."""
DICE = "the Dice term alone"
RATE = "the share of occupied cells in the targets (--positive-rate)"
DECIDE_BY = (
    "the mean and the spread of p over the cells (1/2 without spread: a dead head; the occupancy rate without: the base rate)",
    DICE,
    RATE,
    "the share of zero gradients behind the last layer",
)

_LOGITS = np.linspace(-14, 14, 561)
_SIGMOID = 1 / (1 + np.exp(-_LOGITS))


@dataclass(frozen=True)
class Stated:
    """A loss, as far as it is known."""

    positive_rate: float | None = None
    loss: Family | None = None
    dice_weight: float | None = None
    pos_weight: float | None = None
    alpha: float = 0.25
    gamma: float = 2.0

    def __post_init__(self) -> None:
        rate = self.positive_rate
        if rate is not None and not 0 < rate < 1:
            raise OcclabError(f"expected a positive rate between 0 and 1 (0.005 is half a percent), got {rate}")
        if self.loss not in (None, "bce", "bce+dice", "focal", "dice"):
            raise OcclabError(f"expected a loss of bce, bce+dice, focal or dice, got {self.loss!r}")
        for name, lowest in (("dice_weight", "0 or more"), ("pos_weight", "above 0")):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and (value > 0 or (name == "dice_weight" and value == 0))):
                raise OcclabError(f"expected a {name} of {lowest}, got {value}")
        if self.loss in ("bce", "focal", "dice") and self.dice_weight:
            raise OcclabError(f"a Dice weight of {self.dice_weight} does not go with the loss {self.loss}: expected bce+dice")
        if self.loss in ("focal", "dice") and self.pos_weight not in (None, 1):
            raise OcclabError(
                f"a pos_weight of {self.pos_weight} does not go with the loss {self.loss}: expected bce or bce+dice"
            )

    @property
    def whole(self) -> bool:
        """Is every number of the loss known, but for the rate?"""
        return self.loss is not None and (self.loss != "bce+dice" or self.dice_weight is not None)

    def cost(self, p: Any, rate: Any, *, per_channel: bool = False) -> Any:
        """Loss of one probability predicted everywhere, by floats or arrays; ``per_channel`` takes Dice as 1."""
        if self.loss == "focal":
            occupied = self.alpha * (1 - p) ** self.gamma * -np.log(p)
            return rate * occupied + (1 - rate) * (1 - self.alpha) * p**self.gamma * -np.log1p(-p)
        dice = 1.0 if per_channel else 1 - 2 * p * rate / (p + rate)
        if self.loss == "dice":
            return dice + 0 * p
        weight = 1.0 if self.pos_weight is None else self.pos_weight
        bce = -weight * rate * np.log(p) - (1 - rate) * np.log1p(-p)
        return bce + (self.dice_weight or 0.0) * dice

    def best_constant(self, rate: float, lowest: float = 0.0, *, per_channel: bool = False) -> tuple[float, float]:
        """The cheapest probability of [lowest, 1) to predict everywhere, and its loss."""
        p = np.append(_SIGMOID[lowest < _SIGMOID], max(lowest, 1e-9))
        costs = self.cost(p, rate, per_channel=per_channel)
        i = int(np.argmin(costs))
        if p[i] > lowest and 0 < i < len(p) - 2:  # between its neighbours on the grid, once more
            p = np.linspace(p[i - 1], p[i + 1], 201)
            costs = self.cost(p, rate, per_channel=per_channel)
            i = int(np.argmin(costs))
        return float(p[i]), float(costs[i])

    def says(self, rate: float | str | None = None) -> str:
        """The assumptions in words: "Dice weight 0.5, 0.45 % of the cells occupied"."""
        words = {"bce": ["cross-entropy"], "bce+dice": [f"Dice weight {self.dice_weight or 0:g}"], "dice": ["Dice alone"]}.get(
            self.loss or "", [f"focal alpha {self.alpha:g}, gamma {self.gamma:g}"]
        )
        if self.pos_weight not in (None, 1):
            words.append(f"pos_weight {self.pos_weight:g}")
        if rate is not None:
            words.append(rate if isinstance(rate, str) else f"{100 * rate:.3g} % of the cells occupied")
        return ", ".join(words)


@dataclass(frozen=True)
class Reading:
    """One prediction whose loss is that of the plateau."""

    reading: str
    assumes: str
    value: float
    trivial: bool = True
    """Does nothing need to be learnt for it?"""

    def to_dict(self) -> dict[str, Any]:
        return {"reading": self.reading, "assumes": self.assumes, "value": self.value}


HALF = "a dead head, p = 1/2 everywhere"
BASE_RATE = "the base rate everywhere, no input"
ONES = "everything occupied, Dice's own optimum"
BOUNDED = "a head that cannot go below p = 1/2 and is right otherwise"
DOUBLE = "ReLU and two sigmoids, p = 0.622 everywhere"


_SHORT = {HALF: "p = 1/2", BASE_RATE: "the base rate", ONES: "all occupied", BOUNDED: "no p below 1/2", DOUBLE: "p = 0.622"}


def in_short(reading: str) -> str:
    """A reading as it fits on a line of a figure."""
    return next((short for name, short in _SHORT.items() if reading.startswith(name)), reading.rpartition(", ")[2])


def tolerance(value: float, error: float) -> float:
    """How far from a floor a settled loss may lie."""
    return max(TOLERANCE * abs(value), min(3 * error, 3 * TOLERANCE * abs(value)))


def rungs(stated: Stated, rate: float) -> list[tuple[str, float, float, bool]]:
    """Floors of a loss at an occupancy rate: name, lowest and highest value, and whether nothing is learnt there."""

    def ends(p: float) -> tuple[float, float]:
        return tuple(sorted(float(stated.cost(p, rate, per_channel=c)) for c in (False, True)))

    low, high = (stated.best_constant(rate, per_channel=c)[1] for c in (False, True))
    found = [(HALF, *ends(0.5), True)]
    if stated.loss == "dice":
        return [*found, (ONES, 1 - 2 * rate / (1 + rate), 1.0, True)]
    found.append((BASE_RATE, min(low, high), max(low, high), True))
    if stated.loss == "focal":
        return found
    perfect = _bounded(stated, rate)
    return [*found, (DOUBLE, *_doubled(stated, rate), True), (BOUNDED, perfect, found[0][2], False)]


def readings_at(stated: Stated, level: float, error: float, rate: float) -> list[Reading]:
    """The floors of a known loss, at a known rate, at which a plateau lies."""
    found = []
    for name, low, high, trivial in rungs(stated, rate):
        near = min(max(level, low), high)
        if abs(level - near) <= tolerance(near, error):
            found.append(Reading(_named(name, stated), stated.says(rate), near, trivial))
    return found[:1] + [r for r in found[1:] if not (r.reading.startswith(BOUNDED) and found[0].reading.startswith(HALF))]


def readings(stated: Stated, level: float, error: float) -> list[Reading]:
    """Every reading of a plateau that fits what is known, the plainest first."""
    if stated.positive_rate is not None:
        found = [r for s in _candidates(stated) for r in readings_at(s, level, error, stated.positive_rate)]
    else:
        found = [r for s in _candidates(stated) for r in _at_any_rate(s, level, error)]
    if stated.loss is None:
        found += _classes(level, error)
    order = (HALF, DOUBLE, "softmax", ONES, BASE_RATE, BOUNDED)
    return sorted(
        found, key=lambda r: (next(i for i, name in enumerate(order) if r.reading.startswith(name)), "pos_weight" in r.assumes)
    )


def _candidates(stated: Stated) -> list[Stated]:
    families = (stated.loss,) if stated.loss else ("bce", "bce+dice") if stated.dice_weight is None else ("bce+dice",)
    if not stated.loss and stated.dice_weight is None and stated.pos_weight is None:
        families = (*families, "focal", "dice")
    found = []
    for family in families:
        if family == "focal":
            alphas = FOCAL_ALPHAS if stated.loss is None else (stated.alpha,)
            found += [replace(stated, loss="focal", alpha=alpha) for alpha in alphas]
        elif family == "dice":
            found.append(replace(stated, loss="dice"))
        else:
            weights = (0.0,) if family == "bce" else DICE_WEIGHTS if stated.dice_weight is None else (stated.dice_weight,)
            positives = (
                (1.0, *POS_WEIGHTS) if stated.pos_weight is None and stated.loss is None else (stated.pos_weight or 1.0,)
            )
            found += [replace(stated, loss=family, dice_weight=d, pos_weight=w) for d in weights for w in positives]
    return found


def _at_any_rate(stated: Stated, level: float, error: float) -> list[Reading]:
    found = []
    sparse, dense = float(stated.cost(0.5, 1e-9)), float(stated.cost(0.5, SPARSE))
    # With a weight on the occupied cells p = 1/2 costs anything; without one it pins the level down.
    if stated.pos_weight in (None, 1) and _between(level, error, sparse, dense):
        rate = _crossing(lambda r: stated.cost(0.5, r), level - tolerance(level, error), 1e-6, SPARSE)
        few = f"up to about {100 * (rate or SPARSE):.2g} % of the cells occupied"
        found.append(Reading(_named(HALF, stated), stated.says(few), min(max(level, min(sparse, dense)), max(sparse, dense))))
    rates = np.geomspace(1e-4, 0.5, 120)
    if stated.loss == "dice":
        rate = (1 - level) / (1 + level)
        return [*found, Reading(_named(ONES, stated), stated.says(rate), level)] if 1e-4 < rate <= 0.5 else found
    costs = stated.cost(_SIGMOID[:, None], rates[None, :]).min(0)
    above = np.flatnonzero((costs[1:] - level) * (costs[:-1] - level) <= 0)
    if len(above):
        rate = _crossing(lambda r: stated.best_constant(r)[1], level, rates[above[0]], rates[above[0] + 1])
        if rate is not None:
            found.append(Reading(_named(BASE_RATE, stated), stated.says(rate), stated.best_constant(rate)[1]))
    if stated.loss == "focal" or stated.pos_weight not in (None, 1):
        return found
    low, high = sorted((_doubled(stated, 1e-6)[1], _doubled(stated, SPARSE)[0]))
    if _between(level, error, low, high):
        found.append(Reading(_named(DOUBLE, stated), stated.says("few cells occupied"), min(max(level, low), high)))
    if not any(r.reading.startswith(HALF) for r in found):
        rate = _crossing(lambda r: _bounded(stated, r), level, 1e-4, 0.3)
        if rate is not None:
            found.append(Reading(_named(BOUNDED, stated), stated.says(rate), level, trivial=False))
    return found


def _classes(level: float, error: float) -> list[Reading]:
    classes = round(math.exp(min(level, 8.0)))
    if classes in CLASSES and abs(level - math.log(classes)) <= min(tolerance(math.log(classes), error), 0.5 / classes):
        return [Reading(f"softmax that says nothing, ln {classes}", f"cross-entropy over {classes} classes", math.log(classes))]
    return []


def _between(level: float, error: float, one: float, other: float) -> bool:
    low, high = sorted((one, other))
    return low - tolerance(low, error) <= level <= high + tolerance(high, error)


def _bounded(stated: Stated, rate: float) -> float:
    """p = 1/2 on empty cells and 1 on occupied ones."""
    dice = 1 - 2 * rate / (rate + (1 - rate) / 2 + rate)
    return (1 - rate) * math.log(2) + (stated.dice_weight or 0.0) * dice


def _doubled(stated: Stated, rate: float) -> tuple[float, float]:
    """A cross-entropy on logits that is given sigmoid(0) = 1/2: p = sigmoid(1/2)."""
    p = 1 / (1 + math.exp(-0.5))
    low, high = (float(stated.cost(p, rate, per_channel=c)) for c in (False, True))
    return min(low, high), max(low, high)


def _crossing(cost: Any, level: float, low: float, high: float) -> float | None:
    """The rate at which a loss has the level, found by halving; None where it has not."""
    at_low, at_high = cost(low) - level, cost(high) - level
    if at_low * at_high > 0:
        return None
    for _ in range(25):
        middle = math.sqrt(low * high)
        if (cost(middle) - level) * at_low > 0:
            low = middle
        else:
            high = middle
    return math.sqrt(low * high)


def _named(name: str, stated: Stated) -> str:
    """With the sum written out, as people of this field write it."""
    if name == HALF and stated.pos_weight in (None, 1):
        sums = {"bce": "ln 2", "bce+dice": f"ln 2 + {stated.dice_weight or 0:g} x 1", "dice": "nearly 1"}
        written = sums.get(stated.loss or "", f"{1 - stated.alpha:g} x {0.5**stated.gamma:g} x ln 2")
        return f"{name} ({written})"
    return name
