"""Scores of an occupancy prediction, at every threshold at once, per height, beside those of trivial predictions.

A cell is called occupied where p > threshold, strictly: a head stuck at p = 1/2 calls nothing occupied at 1/2.
Thresholds are multiples of 1/4096; others are rounded down. Targets count as occupied where they are above 0.
Legend: B frames, Z height channels, Y X cells.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import OcclabError

_BINS = 4096  # a power of two, so that p * _BINS is exact and the threshold 1/2 falls between two bins


@dataclass(frozen=True)
class Scores:
    """Numbers in [0, 1]; 0 / 0 is 0, so an empty prediction scores 0 and not NaN."""

    iou: float
    precision: float
    recall: float
    average_precision: float
    best_iou: float
    """Highest IoU over all thresholds."""
    best_threshold: float
    """Where it is reached."""


class OccupancyScore:
    """Accumulates predictions frame by frame.

    >>> score = OccupancyScore()
    >>> score.update(torch.tensor([0.9, 0.2]).view(1, 1, 1, 2), torch.tensor([1.0, 0.0]).view(1, 1, 1, 2))
    >>> score.compute().iou
    1.0
    """

    def __init__(self) -> None:
        self.histogram: Tensor | None = None
        """(2, Z, 4097): cells by target, height and probability; bin 0 is p = 0, bin k the p in ((k - 1) / 4096, k / 4096]."""

    def update(self, p: Tensor, target: Tensor, mask: Tensor | None = None) -> None:
        """Add predictions.

        Shape:
            p, target: (B, Z, Y, X), p in [0, 1]; mask: bool, broadcastable to them.

        Raises:
            OcclabError: shapes differ, or p leaves [0, 1] or is NaN.
        """
        if p.ndim != 4 or p.shape != target.shape:
            raise OcclabError(
                f"OccupancyScore expects p and target of one shape (B, Z, Y, X), got {tuple(p.shape)} and {tuple(target.shape)}"
            )
        p = p.detach().float()
        if not bool(((p >= 0) & (p <= 1)).all()):
            raise OcclabError("OccupancyScore expects probabilities in [0, 1]; apply a sigmoid to logits first")
        nz = p.shape[1]
        bins = torch.ceil(p * _BINS).long()  # so that p > k / 4096 is exactly "bin > k"
        height = torch.arange(nz, device=p.device).view(1, nz, 1, 1)
        cell = ((target > 0).long() * nz + height) * (_BINS + 1) + bins
        cell = cell.flatten() if mask is None else cell[mask.expand_as(target)]
        counts = torch.bincount(cell, minlength=2 * nz * (_BINS + 1)).view(2, nz, _BINS + 1).cpu()
        if self.histogram is not None and self.histogram.shape != counts.shape:
            raise OcclabError(f"OccupancyScore was given {self.histogram.shape[1]} height channels before and {nz} now")
        self.histogram = counts if self.histogram is None else self.histogram + counts

    def compute(self, threshold: float = 0.5) -> Scores:
        """Scores over all heights."""
        return _scores(self._histogram().sum(1), threshold)

    def per_height(self, threshold: float = 0.5) -> list[Scores]:
        """Scores of each height channel."""
        return [_scores(self._histogram()[:, z], threshold) for z in range(self._histogram().shape[1])]

    def iou_curve(self) -> tuple[Tensor, Tensor]:
        """Thresholds (4096,), 0 to 4095/4096, and the IoU at each."""
        hit, false_alarm, occupied = _counts(self._histogram().sum(1))
        return torch.arange(_BINS) / _BINS, _ratio(hit, occupied + false_alarm)[1:]

    def _histogram(self) -> Tensor:
        if self.histogram is None:
            raise OcclabError("OccupancyScore has seen no prediction yet; call update first")
        return self.histogram


def _counts(histogram: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(2, bins) -> hits and false alarms of "bin k or above" for each k, and the number of occupied cells."""
    above = histogram.flip(-1).cumsum(-1).flip(-1).double()
    return above[1], above[0], histogram[1].sum().double()


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    return torch.where(b > 0, a / b.clamp(min=1e-12), torch.zeros_like(b))


def _scores(histogram: Tensor, threshold: float) -> Scores:
    if not 0 <= threshold < 1:
        raise OcclabError(f"a threshold must lie in [0, 1), got {threshold}")
    hit, false_alarm, occupied = _counts(histogram)
    union_iou = _ratio(hit, occupied + false_alarm)
    precision, recall = _ratio(hit, hit + false_alarm), _ratio(hit, occupied.expand_as(hit))
    gain = recall - torch.cat([recall[1:], recall.new_zeros(1)])  # from the strictest threshold down to p >= 0
    k = int(threshold * _BINS) + 1  # "p > threshold" leaves bin 0, p = 0, out
    best = int(union_iou[1:].argmax()) + 1
    return Scores(
        iou=float(union_iou[k]),
        precision=float(precision[k]),
        recall=float(recall[k]),
        average_precision=float((gain * precision).sum()),
        best_iou=float(union_iou[best]),
        best_threshold=(best - 1) / _BINS,
    )


def iou(predicted: Tensor, target: Tensor, mask: Tensor | None = None) -> float:
    """Intersection over union of two occupancies (> 0 is occupied), 0 where both are empty."""
    predicted, target = predicted > 0, target > 0
    if mask is not None:
        predicted, target = predicted & mask, target & mask
    union = int((predicted | target).sum())
    return int((predicted & target).sum()) / union if union else 0.0


def trivial_scores(target: Tensor, predictions: dict[str, Tensor], mask: Tensor | None = None) -> dict[str, Scores]:
    """What no network is needed for: print these beside a model's scores.

    "All empty" and "all occupied" are always among them; ``predictions`` adds others, such as the input itself (the
    pseudo cloud's occupancy) and the training frames' mean map.

    Shape:
        target, each prediction: (B, Z, Y, X), predictions in [0, 1]; mask: broadcastable to them, or None.
    """
    scores = {}
    for name, p in {"all empty": torch.zeros_like(target), "all occupied": torch.ones_like(target), **predictions}.items():
        score = OccupancyScore()
        score.update(p, target, mask)
        scores[name] = score.compute()
    return scores
