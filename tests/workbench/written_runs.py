"""Folders of runs as training writes them, made without training."""

import json

from occlab.diagnosis import HALF
from occlab.settings import PROFILES
from occlab.training import preset
from occlab.training.config import to_dict
from occlab.workbench import run_table

TINY = PROFILES["tiny"]


def as_it_stood(seed=0, **changes):
    return preset("as-it-stood", TINY, seed=seed, steps=20, **changes)


def summary(settled, iou, *, floor=None, half=1.19):
    """As much of a summary as a row of a table takes."""
    scores = {"iou": iou, "best_iou": iou, "average_precision": iou}
    return {
        "first_loss": 1.35,
        "settled_loss": settled,
        "reduction": 0.1,
        "floor": half,
        "floor_name": floor or HALF,
        "on_floor": floor is not None,
        "gradient_norm_min": 0.1,
        "gradient_norm_max": 0.2,
        "clipped_share": 0.0,
        "ladder": {HALF: half},
        "probability": {"min": 0.5, "mean": 0.5, "std": 0.0},
        "training": scores,
        "held_out": {
            **{f"{kind}_statistics": scores for kind in ("batch", "running")},
            "trivial": {"the input itself": scores},
        },
        "seconds": 1.0,
        "device": "cpu",
    }


def write_run(root, name, config, losses=(1.3, 1.2), *, made=None, prints=("a", "b"), **more):
    """A run's folder, as training writes it, without weights."""
    folder = root / name
    folder.mkdir(parents=True)
    groups = {group: [{"name": group, "fingerprint": p}] for group, p in zip(("frames", "held_out"), prints, strict=True)}
    (folder / "config.json").write_text(json.dumps({"config": to_dict(config), **groups, **more}))
    ones = dict.fromkeys(("clip_coefficient", "update_ratio", "lr", "time"), 1.0)
    lines = [
        json.dumps({"step": i, "loss": loss, "iou": loss / 10, "grad_norm": 0.1 * i, **ones})
        for i, loss in enumerate(losses, 1)
    ]
    (folder / "scalars.json").write_text("\n".join(lines) + "\n")
    if made is not None:
        (folder / "summary.json").write_text(json.dumps(made))
    return folder


def rows_of(desk):
    return run_table.table(desk.runs())
