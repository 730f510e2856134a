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
