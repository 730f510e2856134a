"""The ladder of floors: what a loss costs for predictions that need no learning, and for the perfect one.

A loss that has stopped falling has usually stopped *at* something. Each rung is the value of the same loss, on the same
targets, for a prediction one can write down. Each is computed twice: for an output that is free, and for one that
cannot go below 1/2, as behind ReLU and sigmoid.

A rung is a landmark, not a bound: only "p = 1/2" and "best constant" are the lowest of their kind. On soft targets even
p = target is not the lowest loss, because linear Dice rewards predictions sharper than the target.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from ..losses import OccupancyLoss


@dataclass(frozen=True)
class Floor:
    """One prediction, and what it costs."""

    name: str
    free: float
    """The loss there; infinite where an occupied cell would be given probability 0."""
    bounded: float
    """The loss of the nearest thing an output can say that cannot go below 1/2."""
    explanation: str


@dataclass(frozen=True)
class Ladder:
    """The floors of one loss on one set of targets."""

    floors: tuple[Floor, ...]
    occupied: float
    """Share of the cells that count whose target is above 0."""
    best_constant: float
    """The probability that, predicted everywhere, costs least."""

    def __getitem__(self, name: str) -> float:
        """The loss at a rung, e.g. ``"p = 1/2 everywhere"`` or ``"mean map, p >= 1/2"``."""
        return self.rungs[name]

    @property
    def rungs(self) -> dict[str, float]:
        """Every finite value on the ladder by name, highest first; a bounded one only where it is a value of its own."""
        values = {}
        for floor in sorted(self.floors, key=lambda floor: floor.name != HALF):  # 1/2 first: others may coincide with it
            for name, value in ((floor.name, floor.free), (f"{floor.name}, p >= 1/2", floor.bounded)):
                if math.isfinite(value) and not any(math.isclose(value, other, rel_tol=1e-6) for other in values.values()):
                    values[name] = value
        return dict(sorted(values.items(), key=lambda item: -item[1]))

    def stopped_at(self, loss: float, tolerance: float = 0.01) -> str:
        """Name of the rung at which a settled loss has stopped: of those within the relative ``tolerance`` the highest, which
        a falling loss meets first; the nearest one where none is that close."""
        rungs, close = self.rungs, self.matches(loss, tolerance)
        if close:
            return max(close, key=rungs.__getitem__)
        return min(rungs, key=lambda name: abs(rungs[name] - loss))

    def matches(self, loss: float, tolerance: float = 0.01) -> list[str]:
        """Every rung within a relative ``tolerance`` of a loss, closest first. Where several fit, the loss alone cannot
        tell which it is; the spread of the predicted probabilities can."""
        near = {name: abs(value - loss) for name, value in self.rungs.items() if abs(value - loss) <= tolerance * loss}
        return sorted(near, key=near.__getitem__)


HALF = "p = 1/2 everywhere"


def ladder(loss: OccupancyLoss, target: Tensor, mask: Tensor | None = None) -> Ladder:
    """The floors of a loss on a batch of targets. Each frame counts the same, as in training with one frame a batch.

    Shape:
        target: (B, Z, Y, X) in [0, 1], all frames of the run or a fair sample. mask: bool, broadcastable, or None.

    >>> floors = ladder(OccupancyLoss(), torch.zeros(2, 32, 36, 36).bernoulli(0.01))
    >>> round(floors[HALF], 2)
    1.18
    """
    if mask is not None:
        mask = mask.expand_as(target)
    frames = range(len(target))
    curves = [loss.constant_curve(target[i][None], None if mask is None else mask[i][None]) for i in frames]

    def constant(p: float) -> float:
        return math.fsum(curve(p) for curve in curves) / len(curves)

    best, best_value = _lowest(constant, 0.0)
    _, best_bounded = _lowest(constant, 0.5)
    valid = torch.ones_like(target) if mask is None else mask.float()
    # In float64: rounded to float32, the mean of targets near 1 can be 1, and then a target below 1 costs infinity.
    mean_map = (target * valid).sum(0, keepdim=True, dtype=torch.float64) / valid.sum(0, keepdim=True).clamp(min=1)

    def of(p_BZYX: Tensor) -> float:
        # Frame by frame, so that no float64 copy of all frames is held.
        return math.fsum(
            loss.of_probabilities(p_BZYX[i % len(p_BZYX)][None], target[i][None], None if mask is None else mask[i][None])
            for i in frames
        ) / len(frames)

    half = constant(0.5)
    floors = (
        Floor("all empty", constant(0.0), half, "p = 0 everywhere"),
        Floor(HALF, half, half, "an output that says nothing: ln 2 of cross-entropy, and a Dice loss near 1"),
        Floor("best constant", best_value, best_bounded, f"p = {best:.4f} everywhere: the base rate, no input"),
        Floor(
            "mean map",
            of(mean_map),
            of(mean_map.clamp(min=0.5)),
            "the mean target of each cell and height: the place, no input",
        ),
        Floor(
            "perfect prediction",
            of(target),
            of(target.clamp(min=0.5)),
            "p = target; above 0 if soft, where Dice rewards a sharper p",
        ),
    )
    return Ladder(floors, float(((target > 0) * valid).sum() / valid.sum().clamp(min=1)), best)


def _lowest(constant: Callable[[float], float], low: float) -> tuple[float, float]:
    """The best constant probability of [low, 1] and its loss. Searched in the logit: the best one is often below 1 %."""

    def p(x: float) -> float:
        return low + (1 - low) / (1 + math.exp(-x))

    found = minimize_scalar(lambda x: constant(p(x)), bounds=(-14.0, 14.0), method="bounded", options={"xatol": 1e-3})
    edge = constant(low)
    return (low, edge) if edge <= found.fun else (p(float(found.x)), float(found.fun))
