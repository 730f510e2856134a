"""The same trainings on the network as it stood and on the one whose output is free, side by side, for notebooks 03 to 09.

Runs are ordinary runs: found again by hash, shared between notebooks.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from ..diagnosis import HALF
from ..errors import require
from ..frames import Frame
from ..settings import Profile
from ..training import Run, TrainConfig, fast_precision, preset, settled, train
from .designs import Arm, apply

HEADS = ("rectified", "logits")

Runs = dict[str, dict[str, Run]]
"""Head -> arm -> run."""


def on_both_heads(
    arms: Mapping[str, Mapping[str, Any]],
    size: Profile,
    frames: list[Frame],
    held_out: list[Frame],
    *,
    heads: Iterable[str] = HEADS,
    seed: int = 0,
    root: Path | None = None,
) -> Runs:
    """Train every arm on every head, or find the runs that did.

    Args:
        arms: name -> changes to the training as it stood, by dotted name, such as ``{"loss.dice": 1.0}``; ``{}`` for none.
        size: profile whose grid, width and steps are used, such as ``profile().for_sweeps()``.

    Raises:
        OcclabError: an unknown setting (the sentence holds the nearest valid one), or a value that does not fit.
    """
    configs: dict[str, dict[str, TrainConfig]] = {}  # all of them first: a mistake in the last costs no training
    for head in heads:
        base = preset("as-it-stood", size, head=head, seed=seed, precision=fast_precision())
        configs[head] = {}
        for name, changes in arms.items():
            config = apply(Arm(name, dict(changes)), base)
            if "snapshot_steps" not in changes:
                config = replace(config, snapshot_steps=moments(config.steps))
            configs[head][name] = config
    return {
        head: {
            name: train(config, frames, held_out, name=f"{head}-{slug(name)}", root=root) for name, config in of_head.items()
        }
        for head, of_head in configs.items()
    }


def moments(steps: int, shares: Sequence[float] = (0, 0.05, 0.15, 0.35, 0.65, 1)) -> tuple[int, ...]:
    """Steps at which to keep the prediction, by default six: early ones close together, where most happens."""
    return tuple(sorted({round(steps * share) for share in shares}))


def loss_curves(runs: Runs) -> dict[str, dict[str, tuple[list[int], list[float]]]]:
    """Head -> arm -> (steps, losses), as figures take them."""
    return {
        head: {name: ([s.step for s in run.steps], [s.loss for s in run.steps]) for name, run in arms.items()}
        for head, arms in runs.items()
    }


def score_rows(runs: Runs) -> list[dict[str, Any]]:
    """A row an arm and head, for a table: where it settled, its own p = 1/2, what the prediction is worth held out."""
    rows = []
    for head, arms in runs.items():
        for name, run in arms.items():
            summary = run.summary
            held_out = summary["held_out"]["batch_statistics"]
            rows.append(
                {
                    "arm": name,
                    "head": head,
                    "settled loss": summary["settled_loss"],
                    "its p = 1/2": summary["ladder"][HALF],
                    "IoU": held_out["iou"],
                    "best IoU": held_out["best_iou"],
                    "average precision": held_out["average_precision"],
                    "gradient norm": median(s.grad_norm for s in settled(run.steps)),
                    "steps clipped": summary["clipped_share"],
                    "lowest p": summary["probability"]["min"],
                }
            )
    return rows


SHOWN = ("settled loss", "its p = 1/2", "IoU", "best IoU", "gradient norm")


def score_table(runs: Runs, columns: Iterable[str] = SHOWN) -> Any:
    """The rows as a pandas table, the heads side by side.

    Raises:
        OcclabError: pandas or Jinja2 is missing.
    """
    pd = require("pandas")
    require("jinja2")  # of the table's style
    table = pd.DataFrame(score_rows(runs))
    wide = table.pivot(index="arm", columns="head", values=list(columns))
    order = [(column, head) for head in runs for column in columns]
    wide = wide.reindex(columns=order, index=list(next(iter(runs.values()))))
    wide.columns = pd.MultiIndex.from_tuples([(head, column) for column, head in order])
    wide.index.name = None
    return wide.style.format(precision=3, na_rep="")


def slug(name: str) -> str:
    """A name for a folder: letters, digits and dashes."""
    return "-".join("".join(c if c.isalnum() or c == "." else " " for c in name).split()) or "arm"
