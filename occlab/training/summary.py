"""What a finished run says: where the loss began and settled, which floor that is, and what the prediction is worth."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..diagnosis.floors import Ladder, ladder
from ..metrics import OccupancyScore, trivial_scores
from .config import TrainConfig
from .data import Batches
from .loop import Step, predict, reestimate_statistics

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def settled(steps: Sequence[Step]) -> Sequence[Step]:
    """The last fifth of a run, at least ten steps of it: what "the settled loss" is the mean over."""
    return steps[-max(10, len(steps) // 5) :]


def summarize(
    config: TrainConfig, steps: Sequence[Step], model: nn.Module, batches: Batches, held_out: Batches | None, fabric: "Fabric"
) -> dict[str, Any]:
    """The numbers of a run, JSON-able. ``floor`` is the rung of the ladder at which the loss has stopped, and
    ``on_floor`` says whether it is within 1 % of it."""
    end = settled(steps)
    first, last = steps[0].loss, _mean([s.loss for s in end])
    rungs = run_ladder(config, batches)
    floor_name = rungs.stopped_at(last)
    score, spread = _evaluate(model, batches, fabric, running_statistics=False)
    summary = {
        "first_loss": first,
        "settled_loss": last,
        "reduction": 1 - last / first,
        "floor": rungs[floor_name],
        "floor_name": floor_name,
        "on_floor": abs(rungs[floor_name] - last) <= 0.01 * last,
        "gradient_norm_min": min(s.grad_norm for s in steps),
        "gradient_norm_max": max(s.grad_norm for s in steps),
        "iou": _mean([s.iou for s in end]),
        "clipped_share": _mean([float(s.clip_coefficient < 1) for s in steps]),
        "occupied_share": rungs.occupied,
        "ladder": rungs.rungs,
        "probability": spread,
        "training": asdict(score.compute()),
        "iou_per_height": [scores.iou for scores in score.per_height()],
        "seconds": sum(s.seconds for s in steps),
        "device": str(fabric.device),
    }
    if held_out is not None:
        by_batch = _evaluate(model, held_out, fabric, running_statistics=False)[0]
        by_running = _evaluate(model, held_out, fabric, running_statistics=True)[0]
        with reestimate_statistics(model, batches, fabric):
            reestimated = _evaluate(model, held_out, fabric, running_statistics=True)[0]
        summary["held_out"] = {
            "batch_statistics": asdict(by_batch.compute()),
            "running_statistics": asdict(by_running.compute()),
            "reestimated_statistics": asdict(reestimated.compute()),
            "iou_per_height": [scores.iou for scores in by_batch.per_height()],
            "trivial": {name: asdict(scores) for name, scores in _trivial(held_out, batches).items()},
        }
    return summary


def run_ladder(config: TrainConfig, batches: Batches) -> Ladder:
    """The floors of the run's own loss on its own training targets."""
    target, mask = batches.targets()
    return ladder(config.loss, target.cpu(), None if mask is None else mask.cpu())


def _evaluate(
    model: nn.Module, batches: Batches, fabric: "Fabric", *, running_statistics: bool
) -> tuple[OccupancyScore, dict[str, float]]:
    score, lowest, total, square, cells = OccupancyScore(), 1.0, 0.0, 0.0, 0
    for batch in batches:
        p = predict(model, batch, fabric, running_statistics=running_statistics)
        score.update(p, batch.target, batch.mask)
        lowest = min(lowest, float(p.min()))
        total, square, cells = total + float(p.double().sum()), square + float(p.double().square().sum()), cells + p.numel()
    mean = total / cells
    return score, {"min": lowest, "mean": mean, "std": max(0.0, square / cells - mean * mean) ** 0.5}


def _trivial(held_out: Batches, training: Batches) -> dict[str, Any]:
    """Scores on the held-out frames of predictions that need no network; the mean map is the training frames'."""
    target, mask = held_out.targets()
    given = torch.cat([batch.features[:, : target.shape[1]] for batch in held_out])  # statistic 0: occupied
    mean_map = (training.targets()[0] > 0).float().mean(0, keepdim=True)
    return trivial_scores(target, {"the input itself": given, "the mean map": mean_map.expand_as(target)}, mask)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
