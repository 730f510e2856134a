"""Somebody's frames, as it stood and as recommended: does the repair hold where nothing was simulated?

    python benchmarks/real_frames.py FOLDER                     a SemanticKITTI root or a folder of frames
    python benchmarks/real_frames.py FOLDER --profile small     five minutes on 2 cores

Trains both on the same frames and scores both on the last ones, which are not trained on, beside the input itself. For
SemanticKITTI the input is the stereo pair's cloud, and only what the camera sees counts. Exit code 1 where as it stood is
not on a floor, or as recommended is not better than its input.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from occlab import OcclabError
from occlab.settings import profile as named_profile
from occlab.training import fast_precision, preset, split_frames, train


@dataclass(frozen=True)
class Options:
    """Which frames, and how large a training."""

    data: Annotated[Path, tyro.conf.Positional]
    """A SemanticKITTI root or a folder of frames."""
    profile: str | None = None
    """full, small or tiny; by default full with CUDA and small without."""
    seed: int = 0
    steps: int | None = None
    """Of the recommended training, instead of the profile's."""


def main(options: Options) -> bool:
    size = named_profile(options.profile)
    long = size.for_recipe()
    long = replace(long, steps=options.steps or long.steps)
    frames, held_out = split_frames(options.data, long)
    print(f"{len(frames)} frames to train on; held out: {', '.join(frame.name for frame in held_out)}", flush=True)
    summaries: dict[str, dict[str, Any]] = {}
    for name, scale in (("as-it-stood", size), ("recommended", long)):
        config = preset(name, scale, seed=options.seed, precision=fast_precision())
        run = train(config, frames, held_out, name=name, progress=sys.stderr.isatty())
        summaries[name] = run.summary or {}
        print(describe(name, summaries[name]), flush=True)
    given = summaries["recommended"]["held_out"]["trivial"]["the input itself"]
    print(f"{'the input itself':14}  IoU held out {given['iou']:.3f}, average precision {given['average_precision']:.3f}")
    best = summaries["recommended"]["held_out"]["running_statistics"]["iou"]
    return bool(summaries["as-it-stood"]["on_floor"]) and best > given["iou"]


def describe(name: str, summary: dict[str, Any]) -> str:
    held_out = summary["held_out"]
    iou, batch = held_out["running_statistics"]["iou"], held_out["batch_statistics"]
    where = "on the floor" if summary["on_floor"] else "nearest floor:"
    return (
        f"{name:16}  loss {summary['first_loss']:.3f} -> {summary['settled_loss']:.3f}, {where} {summary['floor_name']!r} "
        f"({summary['floor']:.3f}); IoU held out {iou:.3f} in eval(), {batch['iou']:.3f} by the batch's statistics, "
        f"average precision {batch['average_precision']:.3f}"
    )


if __name__ == "__main__":
    try:
        sys.exit(not main(tyro.cli(Options)))
    except OcclabError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
