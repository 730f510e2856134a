"""Losses on logits, each knowing its own value for any prediction, so that floors can be computed and not guessed.

Legend: B frames, Z height channels, Y X cells. Logits and targets are (B, Z, Y, X); targets may be soft, in [0, 1].
A mask is bool, broadcastable to the target; cells where it is False count for nothing.

Conventions of the network this library explains, kept as defaults: the loss is BCE + 0.5 Dice; BCE is the mean over
all valid cells; Dice is linear (denominator sum p + sum t), computed per (frame, height channel), smoothed by 1e-6 in
numerator and denominator, then averaged. So an empty channel has a Dice loss of 1 for any prediction but an exactly
empty one. The Tversky loss follows Dice in all of this. The Lovász loss has no smoothing and no channels: it takes the cells
of a frame as one set, as the voxel IoU does.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import OcclabError


@dataclass(frozen=True)
class OccupancyLoss:
    """Weighted sum of binary cross-entropy, soft Dice, focal, Tversky and Lovász loss.

    Sources: Dice, Milletari et al. 2016 (arXiv 1606.04797), in its linear form; focal, Lin et al. 2017 (1708.02002),
    averaged over all cells as occupancy codes do, not over the positives as RetinaNet does; Tversky, Salehi et al. 2017
    (1706.05721); Lovász, Berman et al. 2018 (1705.08790), Lovász-softmax of the one class "occupied".

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
    tversky: float = 0.0
    """Weight of the Tversky loss: Dice with false alarms and misses weighed apart."""
    tversky_alpha: float = 0.3
    """Weight of false alarms, sum p (1 - t). With alpha = beta = 0.5 the Tversky loss is the Dice loss."""
    tversky_beta: float = 0.7
    """Weight of misses, sum (1 - p) t."""
    lovasz: float = 0.0
    """Weight of the Lovász loss: 1 - IoU of a frame, made continuous. A cell is occupied where its target is above 0,
    as in the hard targets; a soft target is not told from a hard one, and p = t does not reach 0 there."""
    dice_smooth: float = 1e-6
    """Smoothing of the Dice loss; the Tversky loss takes half of it, because its sums are half as large."""
    height_weights: tuple[float, ...] | None = None
    """One weight a height channel, in every term; only their ratios matter. Not with ``lovasz``, which has no channels."""

    def __post_init__(self) -> None:
        weights = {name: getattr(self, name) for name in ("bce", "dice", "focal", "tversky", "lovasz")}
        others = (self.focal_alpha, self.focal_gamma, self.tversky_alpha, self.tversky_beta, self.dice_smooth)
        numbers = (*weights.values(), *others, *(self.height_weights or ()))
        if not all(isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) for x in numbers):
            raise OcclabError(f"OccupancyLoss expects finite numbers, got {self}")
        for f in fields(self):
            if f.name != "height_weights":
                object.__setattr__(self, f.name, float(getattr(self, f.name)))  # 1 and 1.0 are one loss, and one run
        if not (0 <= self.focal_alpha <= 1 and self.focal_gamma >= 0 and self.dice_smooth > 0):
            raise OcclabError(f"OccupancyLoss expects 0 <= focal_alpha <= 1, focal_gamma >= 0 and dice_smooth > 0, got {self}")
        if min(self.tversky_alpha, self.tversky_beta) < 0 or self.tversky_alpha + self.tversky_beta == 0:
            raise OcclabError(f"tversky_alpha and tversky_beta must be >= 0 and not both 0, got {self}")
        if min(weights.values()) < 0 or sum(weights.values()) == 0:
            got = ", ".join(f"{name}={weight}" for name, weight in weights.items())
            raise OcclabError(f"OccupancyLoss needs weights >= 0, not all 0; got {got}")
        for term, settings in (("focal", ("focal_alpha", "focal_gamma")), ("tversky", ("tversky_alpha", "tversky_beta"))):
            for name in settings:
                if not weights[term] and getattr(self, name) != getattr(OccupancyLoss, name):
                    raise OcclabError(f"{name}={getattr(self, name)} changes nothing where the weight of the {term} loss is 0")
        if self.height_weights is not None:
            object.__setattr__(self, "height_weights", tuple(float(w) for w in self.height_weights))
            if min(self.height_weights) < 0 or sum(self.height_weights) == 0:
                raise OcclabError(f"height_weights must be >= 0 and not all 0, got {self.height_weights}")
            if self.lovasz:
                raise OcclabError(
                    f"the Lovász loss ranks all cells of a frame together and cannot weigh heights: "
                    f"expected height_weights=None with lovasz={self.lovasz}, got {self.height_weights}"
                )

    def __call__(self, logits: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Scalar loss with gradient. See :meth:`terms`."""
        return self.weigh(self.terms(logits, target, mask))

    def terms(self, logits: Tensor, target: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        """The terms in use, unweighted: ``bce``, ``dice``, ``focal``, ``tversky``, ``lovasz``.

        Shape:
            logits, target: (B, Z, Y, X); mask: broadcastable to them, or None.

        Raises:
            OcclabError: shapes differ, or the number of height weights is not Z.
        """
        weights = self._weights(logits, target, mask)
        logits, p, cross_entropy = logits.float(), None, None  # None where no term asks for it
        if self.bce or self.focal:
            cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        if self.dice or self.focal or self.tversky or self.lovasz:
            p = torch.sigmoid(logits)
        return self._terms(p, cross_entropy, target, weights)

    def of_probabilities(self, p: Tensor, target: Tensor, mask: Tensor | None = None) -> float:
        """The loss of probabilities, exactly: p may be 0 or 1, where a logit would be infinite. In float64.

        p = 0 on a cell whose target is above 0 gives infinity, as it must, where cross-entropy is part of the loss.
        """
        p, target = torch.broadcast_tensors(p.detach().double(), target.double())
        weights = self._weights(p, target, mask)
        return float(self.weigh(self._terms(p, _cross_entropy(p, target), target, weights)))

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
        frame_cells = cells.sum(1)
        rate = occupied.sum((1, 2, 3)) / frame_cells.clamp(min=1)

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
            if self.tversky:
                loss += self.tversky * float(_average(self._tversky_of_sums(q * mass, q * cells, mass), channel_weights))
            if self.lovasz:
                # Two errors only: 1 - p and p. With p < 1/2 all occupied cells go wrong first and take the IoU to 0, so that
                # the empty ones add nothing; with p > 1/2 the empty ones take it to the rate, the occupied ones the rest.
                cost = torch.where(rate > 0, torch.maximum(1 - q, (1 - rate) * q + rate * (1 - q)), q)
                loss += self.lovasz * float(_average(cost, (frame_cells > 0).double()))
            return loss

        return curve

    def weigh(self, terms: dict[str, Tensor]) -> Tensor:
        """The loss from its terms."""
        return sum(getattr(self, name) * value for name, value in terms.items())

    def _terms(self, p: Tensor, cross_entropy: Tensor, target: Tensor, weights: Tensor | None) -> dict[str, Tensor]:
        terms = {}
        if self.bce:
            terms["bce"] = _average(cross_entropy, weights)
        if self.dice:
            terms["dice"] = self._dice(p, target, weights)
        if self.focal:
            terms["focal"] = _average(self._modulation(p, target) * cross_entropy, weights)
        if self.tversky:
            terms["tversky"] = self._tversky(p, target, weights)
        if self.lovasz:
            terms["lovasz"] = lovasz(p, target, weights)
        return terms

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
        if self.focal_gamma % 1 == 0:
            return alpha * wrong**self.focal_gamma
        # At 0 a root has an infinite slope, and a rounding error below 0 has no root: a cell that is right costs nothing.
        least = torch.finfo(wrong.dtype).tiny
        return alpha * torch.where(wrong < least, 0.0, wrong.clamp(min=least) ** self.focal_gamma)

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

    def _tversky(self, p: Tensor, target: Tensor, weights: Tensor | None) -> Tensor:
        if weights is not None:
            valid = (weights > 0).to(p.dtype)
            p, target = p * valid, target * valid
        tversky = self._tversky_of_sums((p * target).sum((2, 3)), p.sum((2, 3)), target.sum((2, 3)))
        return _average(tversky, None if weights is None else weights.amax((2, 3)))

    def _tversky_of_sums(self, overlap: Tensor, predicted: Tensor, mass: Tensor) -> Tensor:
        """1 - (tp + s/2) / (tp + alpha fp + beta fn + s/2), of tp = sum p t, fp = sum p - tp and fn = sum t - tp.

        Half the smoothing s, so that alpha = beta = 1/2 is Dice, 1 - (2 tp + s) / (sum p + sum t + s), divided by two.
        """
        alpha, beta, smooth = self.tversky_alpha, self.tversky_beta, self.dice_smooth / 2
        total = alpha * predicted + beta * mass + (1 - alpha - beta) * overlap
        return 1 - (overlap + smooth) / (total + smooth)


def lovasz(p: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """The Lovász extension of 1 - IoU at the errors |[target > 0] - p|, per frame, then averaged over the frames.

    At p in {0, 1} it is 1 - IoU exactly; between, it is convex in the errors. A frame without an occupied valid cell costs
    its largest p: one false alarm is as bad as all, IoU being 0 either way. A frame without a valid cell has no Lovász loss.

    Shape:
        p, target, weights: (B, Z, Y, X); cells of weight 0 do not count, all others count alike.
    """
    occupied = (target > 0).flatten(1)
    errors = torch.where(occupied, 1 - p.flatten(1), p.flatten(1))
    frames = None
    if weights is not None:
        valid = (weights > 0).flatten(1)
        frames = valid.any(1).to(p.dtype)
        # Without an error a cell comes last, behind every cell that costs something.
        occupied, errors = occupied & valid, torch.where(valid, errors, 0.0)
    errors, order = errors.sort(1, descending=True)
    hit = occupied.gather(1, order)
    hits = hit.cumsum(1)
    total = hits[:, -1:]
    # By how much 1 - IoU grows when a cell goes wrong after all worse ones: 1 / union if it is occupied; left / union -
    # left / (union + 1) if it is empty, as one fraction, because the difference of IoUs loses its digits in float32. hits
    # counts the cell itself, so for an occupied one the union is one more than written.
    left = (total - hits).to(p.dtype)  # occupied cells that are still right
    union = (total + torch.arange(hits.shape[1], device=p.device) - hits).to(p.dtype)
    growth = torch.where(hit, 1 / (union + 1), left / union.clamp(min=1) / (union + 1))
    growth[:, :1] += total == 0
    return _average((errors * growth).sum(1), frames)


def _cross_entropy(p: Tensor, target: Tensor) -> Tensor:
    return -(torch.xlogy(target, p) + torch.xlogy(1 - target, 1 - p))


def _average(values: Tensor, weights: Tensor | None) -> Tensor:
    if weights is None:
        return values.mean()
    # Not a product alone: an infinite loss on a cell that counts for nothing is 0, not NaN.
    return torch.where(weights > 0, values * weights, 0.0).sum() / weights.sum().clamp(min=torch.finfo(values.dtype).tiny)
