"""What a finished run is worth on frames it has never seen, such as real ones after simulated training."""

from collections.abc import Sequence
from dataclasses import asdict

import torch

from ..frames import Frame
from ..metrics import trivial_scores
from .data import Batches
from .loop import make_fabric
from .run import Run
from .summary import _evaluate


def evaluate(run: Run, frames: Sequence[Frame]) -> dict[str, dict[str, float]]:
    """Scores of a run's network on other frames, beside those of their input, which needs no network.

    Returns:
        ``batch_statistics`` and ``running_statistics`` (how BatchNorm was fed) and ``the input itself``, each the fields of
        :class:`~occlab.metrics.Scores`; voxels that a frame's cameras do not see are left out.

    Raises:
        OcclabError: no frame, or one with no point in the run's grid.
    """
    fabric = make_fabric(run.config)
    batches = Batches(frames, run.config, fabric.device)
    model, results = run.model().to(fabric.device), {}
    for name, running in (("batch_statistics", False), ("running_statistics", True)):
        score, _ = _evaluate(model, batches, fabric, running_statistics=running)
        results[name] = asdict(score.compute())
    target, mask = batches.targets()
    given = torch.cat([batch.features[:, : target.shape[1]] for batch in batches])  # statistic 0: occupied
    name = "the input itself"
    return results | {name: asdict(trivial_scores(target, {name: given}, mask)[name])}


def iou_by_height(run: Run, frames: Sequence[Frame], *, threshold: float | None = 0.5) -> list[float | None]:
    """IoU of each height channel over frames, lowest channel first; None where no frame has an occupied cell.

    BatchNorm uses each frame's own statistics; voxels that a frame's cameras do not see are left out.

    Args:
        threshold: a voxel above it is predicted occupied; None takes for every channel the one that scores best.

    Raises:
        OcclabError: no frame, or one with no point in the run's grid; a threshold outside [0, 1).
    """
    fabric = make_fabric(run.config)
    batches = Batches(frames, run.config, fabric.device)
    score, _ = _evaluate(run.model().to(fabric.device), batches, fabric, running_statistics=False)
    heights = score.per_height(0.5 if threshold is None else threshold)
    occupied = score.histogram[1].sum(1) > 0
    return [
        (scores.best_iou if threshold is None else scores.iou) if there else None
        for scores, there in zip(heights, occupied, strict=True)
    ]
