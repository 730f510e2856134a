"""The tidy table of a sweep: a row a run, and what each column is."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch

from ..diagnosis.floors import HALF
from ..errors import OcclabError
from ..files import write_atomically
from ..models import OccupancyUNet, UNetConfig
from ..training import Run, TrainConfig, settled
from .designs import Arm

Row = dict[str, Any]

COLUMNS: dict[str, type] = {
    "arm": str,
    "group": str,
    "seed": int,
    "against": str,
    "status": str,
    "error": str,
    "attempts": int,
    "changes": str,
    "head": str,
    "first_loss": float,
    "settled_loss": float,
    "reduction": float,
    "late_fall": float,
    "half_floor": float,
    "floor_distance": float,
    "floor_name": str,
    "on_floor": bool,
    "perfect": float,
    "training_iou": float,
    "held_out_iou": float,
    "held_out_iou_running": float,
    "held_out_iou_reestimated": float,
    "held_out_best_iou": float,
    "held_out_average_precision": float,
    "input_iou": float,
    "lowest_p": float,
    "mean_p": float,
    "gradient_norm_min": float,
    "gradient_norm_median": float,
    "gradient_norm_max": float,
    "gradient_norm_late": float,
    "clipped_share": float,
    "parameters": int,
    "seconds": float,
    "device": str,
    "precision": str,
    "threads": int,
    "run": str,
    "hash": str,
}
"""Every row has these keys in this order; None where a run gave no such value.

- ``against``: the arm that this one is compared with; None for a yardstick. ``group``: which repetition of the design, or "".
- ``status``: "done" or "failed"; ``error``: why, in a sentence. ``attempts``: 2 where a worker died once under the run.
- ``changes``: the arm's settings that differ from the base, as JSON.
- ``late_fall``: how far the loss fell from the middle fifth of the run to its last one. ``gradient_norm_late``: median over
  the last fifth.
- ``half_floor``: the run's own loss at p = 1/2 everywhere. ``floor_distance``: settled_loss / half_floor - 1, below 0 under
  the floor; losses of different kinds can be compared by it. ``perfect``: the run's own loss where p = target.
- ``held_out_iou``: by the batch's BatchNorm statistics; ``_running``: by the running averages, as after ``model.eval()``;
  ``_reestimated``: by averages taken anew over the training frames. ``input_iou``: of the input itself, no network.
- ``threads``: of the processor while the run was trained; None for one found that no sweep had made. ``run``: its folder.
"""


@dataclass(frozen=True)
class Task:
    """One run to do."""

    arm: Arm
    config: TrainConfig
    hash: str
    """Identity of the run, see :func:`occlab.training.run_hash`."""

    @property
    def name(self) -> str:
        """The run's name: a folder's, so without slashes and the like, and not too long."""
        kept = "".join(c if c.isalnum() or c in "=.+-_" else "-" for c in self.arm.name).strip("-.")
        kept = kept.encode()[:80].decode(errors="ignore")  # file systems count bytes
        return f"{kept}-seed{self.config.seed}"


def done_row(task: Task, run: Run) -> Row:
    """The row of a finished run.

    Raises:
        OcclabError: a summary that lacks something.
    """
    try:
        return _done_row(task, run)
    except (KeyError, TypeError) as error:
        raise OcclabError(f"{run.folder / 'summary.json'}: expected the whole summary of a run ({error})") from error


def _done_row(task: Task, run: Run) -> Row:
    s, made = run.summary, _made(run.folder)
    half = s["ladder"][HALF]
    row = _start(task, "done", made["attempts"]) | {
        "first_loss": s["first_loss"],
        "settled_loss": s["settled_loss"],
        "reduction": s["reduction"],
        "late_fall": late_fall([step.loss for step in run.steps]),
        "half_floor": half,
        "floor_distance": s["settled_loss"] / half - 1,
        "floor_name": s["floor_name"],
        "on_floor": s["on_floor"],
        "perfect": s["ladder"].get("perfect prediction"),
        "training_iou": s["training"]["iou"],
        "lowest_p": s["probability"]["min"],
        "mean_p": s["probability"]["mean"],
        "gradient_norm_min": s["gradient_norm_min"],
        "gradient_norm_median": median(step.grad_norm for step in run.steps),
        "gradient_norm_max": s["gradient_norm_max"],
        "gradient_norm_late": median(step.grad_norm for step in settled(run.steps)),
        "clipped_share": s["clipped_share"],
        "parameters": parameters(task.config.model),
        "seconds": s["seconds"],
        "device": s["device"],
        "threads": made["threads"],
        "run": run.folder.name,
    }
    if held_out := s.get("held_out"):
        row |= {
            "held_out_iou": held_out["batch_statistics"]["iou"],
            "held_out_iou_running": held_out["running_statistics"]["iou"],
            "held_out_iou_reestimated": held_out.get("reestimated_statistics", {}).get("iou"),
            "held_out_best_iou": held_out["batch_statistics"]["best_iou"],
            "held_out_average_precision": held_out["batch_statistics"]["average_precision"],
            "input_iou": held_out["trivial"]["the input itself"]["iou"],
        }
    return row


def failed_row(task: Task, error: str, attempts: int, threads: int | None) -> Row:
    """The row of a run that came to nothing: no numbers, and the reason."""
    return _start(task, "failed", attempts) | {"error": error, "threads": threads}


def _start(task: Task, status: str, attempts: int) -> Row:
    about = {
        "arm": task.arm.name,
        "group": task.arm.group,
        "seed": task.config.seed,
        "against": task.arm.against,
        "status": status,
        "attempts": attempts,
        "changes": json.dumps(task.arm.changes),
        "head": task.config.model.head,
        "precision": task.config.precision,
        "hash": task.hash,
    }
    return dict.fromkeys(COLUMNS) | about


def late_fall(losses: Sequence[float]) -> float:
    """Relative fall of the loss from the middle fifth of a run to its last one: near 0 on a plateau."""
    fifth = max(1, len(losses) // 5)
    middle = fmean(losses[2 * fifth : 3 * fifth] or losses)
    return 1 - fmean(losses[-fifth:]) / middle if middle else 0.0


def parameters(config: UNetConfig) -> int:
    """Trainable numbers of a network, without making it."""
    with torch.device("meta"):
        return sum(p.numel() for p in OccupancyUNet(config).parameters())


def find_folder(root: Path, identity: str) -> Path | None:
    """The folder of a finished run, by its hash."""
    return next((path for path in sorted(root.glob(f"*-{identity}")) if (path / "summary.json").exists()), None)


def note_making(folder: Path, threads: int, attempts: int) -> None:
    """Keep beside a run what its own files do not say, so that its row is the same when it is found again."""
    text = json.dumps({"threads": threads, "attempts": attempts})
    write_atomically(folder / "sweep.json", lambda partial: partial.write_text(text + "\n", encoding="utf-8"))


def _made(folder: Path) -> dict[str, Any]:
    path = folder / "sweep.json"
    if not path.exists():  # trained by itself
        return {"threads": None, "attempts": 1}
    try:
        made = json.loads(path.read_text(encoding="utf-8"))
        return {"threads": made["threads"], "attempts": made["attempts"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OcclabError(f"{path}: expected threads and attempts as JSON ({error})") from error


def failures(rows: Sequence[Row]) -> list[Row]:
    """The rows of runs that came to nothing."""
    return [row for row in rows if row["status"] != "done"]
