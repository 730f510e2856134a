"""Losses on logits, each knowing its own value for any prediction, so that floors can be computed and not guessed.

Legend: B frames, Z height channels, Y X cells. Logits and targets are (B, Z, Y, X); targets may be soft, in [0, 1].
A mask is bool, broadcastable to the target; cells where it is False count for nothing.

Conventions of the network this library explains, kept as defaults: the loss is BCE + 0.5 Dice; BCE is the mean over
all valid cells; Dice is linear (denominator sum p + sum t), computed per (frame, height channel), smoothed by 1e-6 in
numerator and denominator, then averaged. So an empty channel has a Dice loss of 1 for any prediction but an exactly
empty one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import OcclabError


@dataclass(frozen=True)
class OccupancyLoss:
    """Weighted sum of binary cross-entropy, soft Dice and focal loss.

    Sources: Dice, Milletari et al. 2016 (arXiv 1606.04797), in its linear form; focal, Lin et al. 2017 (1708.02002),
    averaged over all cells as occupancy codes do, not over the positives as RetinaNet does.

    >>> loss = OccupancyLoss()
    >>> target = torch.zeros(1, 32, 180, 180)
    >>> round(loss.of_constant(0.5, target), 4)  # ln 2 + 0.5
    1.1931
    """

    bce: float = 1.0
    """Weight of the binary cross-entropy."""
    dice: float = 0.5
    """Weight of the Dice loss."""
    focal: float = 0.0
    """Weight of the focal loss."""
    focal_alpha: float = 0.25
    """Weight of occupied cells in the focal loss; empty ones weigh 1 - alpha."""
    focal_gamma: float = 2.0
    dice_smooth: float = 1e-6
    height_weights: tuple[float, ...] | None = None
    """One weight a height channel, in every term; only their ratios matter."""

    def __post_init__(self) -> None:
        numbers = (self.bce, self.dice, self.focal, self.focal_alpha, self.focal_gamma, self.dice_smooth)
        if not all(isinstance(x, int | float) and math.isfinite(x) for x in (*numbers, *(self.height_weights or ()))):
            raise OcclabError(f"OccupancyLoss expects finite numbers, got {self}")
        if not (0 <= self.focal_alpha <= 1 and self.focal_gamma >= 0 and self.dice_smooth > 0):
            raise OcclabError(f"OccupancyLoss expects 0 <= focal_alpha <= 1, focal_gamma >= 0 and dice_smooth > 0, got {self}")
        if min(self.bce, self.dice, self.focal) < 0 or self.bce + self.dice + self.focal == 0:
            raise OcclabError(
                f"OccupancyLoss needs weights >= 0, not all 0; got bce={self.bce}, dice={self.dice}, focal={self.focal}"
            )
        if self.height_weights is not None:
            object.__setattr__(self, "height_weights", tuple(float(w) for w in self.height_weights))
            if min(self.height_weights) < 0 or sum(self.height_weights) == 0:
                raise OcclabError(f"height_weights must be >= 0 and not all 0, got {self.height_weights}")

    def __call__(self, logits: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Scalar loss with gradient. See :meth:`terms`."""
        return self.weigh(self.terms(logits, target, mask))

    def terms(self, logits: Tensor, target: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        """The terms in use, unweighted: ``bce``, ``dice``, ``focal``.

        Shape:
            logits, target: (B, Z, Y, X); mask: broadcastable to them, or None.

        Raises:
            OcclabError: shapes differ, or the number of height weights is not Z.
        """
        weights = self._weights(logits, target, mask)
        logits, terms = logits.float(), {}
        if self.bce or self.focal:
            cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        if self.bce:
            terms["bce"] = _average(cross_entropy, weights)
        if self.dice or self.focal:
            p = torch.sigmoid(logits)
        if self.dice:
            terms["dice"] = self._dice(p, target, weights)
        if self.focal:
            terms["focal"] = _average(self._modulation(p, target) * cross_entropy, weights)
        return terms

    def of_probabilities(self, p: Tensor, target: Tensor, mask: Tensor | None = None) -> float:
        """The loss of probabilities, exactly: p may be 0 or 1, where a logit would be infinite. In float64.

        p = 0 on a cell whose target is above 0 gives infinity, as it must.
        """
        p, target = torch.broadcast_tensors(p.detach().double(), target.double())
        weights = self._weights(p, target, mask)
        terms = {}
        cross_entropy = _cross_entropy(p, target)
        if self.bce:
            terms["bce"] = _average(cross_entropy, weights)
        if self.dice:
            terms["dice"] = self._dice(p, target, weights)
        if self.focal:
            terms["focal"] = _average(self._modulation(p, target) * cross_entropy, weights)
        return float(self.weigh(terms))

    def of_constant(self, p: float, target: Tensor, mask: Tensor | None = None) -> float:
        """The loss of predicting the same probability everywhere."""
        return self.constant_curve(target, mask)(p)

    def constant_curve(self, target: Tensor, mask: Tensor | None = None) -> Callable[[float], float]:
        """The loss as a function of one probability predicted everywhere.

        The targets are summed up once, so that the curve is cheap to evaluate: a constant costs the same on all cells
        of one target value, and nearly all targets are exactly 0.
        """
        target = target.double()
        weights = self._weights(target, target, mask)
        if weights is None:
            weights = torch.ones((), dtype=torch.float64).expand_as(target)
        valid = weights > 0
        occupied = (target > 0) & valid
        value, weight = target[occupied], weights[occupied].double()
        all_weight = float(weights.double().sum())
        if all_weight == 0:
            raise OcclabError("the mask leaves no cell: there is nothing to compute a loss of")
        zero = torch.zeros((), dtype=torch.float64)
        cells, mass = valid.sum((2, 3)).double(), torch.where(valid, target, zero).sum((2, 3))
        channel_weights = weights.amax((2, 3)).double()

        def average(cost: Callable[[Tensor], Tensor]) -> float:
            rest = all_weight - float(weight.sum())
            return (float((weight * cost(value)).sum()) + (rest * float(cost(zero)) if rest > 0 else 0.0)) / all_weight

        def curve(p: float) -> float:
            if not 0 <= p <= 1:
                raise OcclabError(f"a constant prediction must lie in [0, 1], got {p}")
            q, loss = torch.tensor(float(p), dtype=torch.float64), 0.0
            if self.bce:
                loss += self.bce * average(lambda t: _cross_entropy(q, t))
            if self.dice:
                dice = 1 - (2 * q * mass + self.dice_smooth) / (q * cells + mass + self.dice_smooth)
                loss += self.dice * float(_average(dice, channel_weights))
            if self.focal:
                loss += self.focal * average(lambda t: self._modulation(q, t) * _cross_entropy(q, t))
            return loss

        return curve

    def weigh(self, terms: dict[str, Tensor]) -> Tensor:
        """The loss from its terms."""
        return sum(getattr(self, name) * value for name, value in terms.items())

    def _weights(self, prediction: Tensor, target: Tensor, mask: Tensor | None) -> Tensor | None:
        """(B, Z, Y, X) weight of each cell, or None where all weigh the same."""
        if prediction.ndim != 4 or prediction.shape != target.shape:
            raise OcclabError(
                f"OccupancyLoss expects prediction and target of one shape (B, Z, Y, X), "
                f"got {tuple(prediction.shape)} and {tuple(target.shape)}"
            )
        weights = None
        if mask is not None:
            weights = mask.to(prediction.dtype if prediction.dtype == torch.float64 else torch.float32).expand_as(target)
        if self.height_weights is not None:
            if len(self.height_weights) != target.shape[1]:
                raise OcclabError(f"{len(self.height_weights)} height_weights for {target.shape[1]} height channels")
            heights = torch.tensor(self.height_weights, device=target.device, dtype=torch.float32).view(1, -1, 1, 1)
            weights = heights.expand_as(target) if weights is None else heights * weights
        return weights

    def _modulation(self, p: Tensor, target: Tensor) -> Tensor:
        wrong = p + target - 2 * p * target  # 1 - p_t, also for soft targets
        alpha = (1 - self.focal_alpha) + (2 * self.focal_alpha - 1) * target
        return alpha * wrong**self.focal_gamma

    def _dice(self, p: Tensor, target: Tensor, weights: Tensor | None) -> Tensor:
        if weights is None:
            overlap, total = (p * target).sum((2, 3)), p.sum((2, 3)) + target.sum((2, 3))
        else:
            # Within one channel the height weight is constant, so only the mask acts on the sums.
            valid = (weights > 0).to(p.dtype)
            overlap, total = (p * target * valid).sum((2, 3)), ((p + target) * valid).sum((2, 3))
        dice = 1 - (2 * overlap + self.dice_smooth) / (total + self.dice_smooth)
        # A channel without a valid cell has no Dice.
        return _average(dice, None if weights is None else weights.amax((2, 3)))


def _cross_entropy(p: Tensor, target: Tensor) -> Tensor:
    return -(torch.xlogy(target, p) + torch.xlogy(1 - target, 1 - p))


def _average(values: Tensor, weights: Tensor | None) -> Tensor:
    if weights is None:
        return values.mean()
    # Not a product alone: an infinite loss on a cell that counts for nothing is 0, not NaN.
    return torch.where(weights > 0, values * weights, 0.0).sum() / weights.sum().clamp(min=torch.finfo(values.dtype).tiny)
