"""Record full-scale runs, with all that is needed to believe and repeat them.

    python benchmarks/record.py                          on a machine with CUDA, simulated streets
    python benchmarks/record.py --data FOLDER            frames made elsewhere: a GPU machine needs no Open3D
    python benchmarks/record.py --cpu --only as-it-stood --seeds 1 --batch-size 1 --steps 300     eleven minutes on 2 cores
    python benchmarks/record.py --profile tiny --seeds 1 --steps 20 --out build/recorded          to try it

Each run becomes a folder in data_samples/runs/: config.json, scalars.json and summary.json as the training wrote them,
volumes.npz with what was predicted for the first frame and what its LiDAR says, as packed bits, and record.json with
device, versions, commit and command. Weights are left out.
"""

import json
import shlex
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro

from occlab import OcclabError, occupancy
from occlab.ablation import Arm, apply, read_design
from occlab.ablation.both_heads import slug
from occlab.frames import Frame
from occlab.provenance import provenance
from occlab.settings import profile as named_profile
from occlab.training import Run, fast_precision, preset, split_frames, train

DESIGNS = Path(__file__).parents[1] / "notebooks" / "designs"


def runs() -> dict[str, tuple[str, dict[str, Any]]]:
    """What is recorded: name -> preset and changes to it. The fixes are those of the designs that the notebooks show."""
    found: dict[str, tuple[str, dict[str, Any]]] = {
        "as-it-stood": ("as-it-stood", {}),
        "free-output": ("as-it-stood", {"head": "logits"}),
        "repaired": ("repaired", {}),
        "recommended": ("recommended", {}),
    }
    single = [arm for arm in read_design(DESIGNS / "five_fixes.yaml").arms if arm.against is not None]
    together = [arm for arm in read_design(DESIGNS / "claims.yaml").arms if arm.name.endswith("all of them")]
    for arm in (*single, *together):
        found[slug(arm.name.removeprefix("head=").replace(":", ""))] = ("as-it-stood", dict(arm.changes))
    return found


RUNS = runs()


@dataclass(frozen=True)
class Record:
    """What to record, and where."""

    out: Path = Path("data_samples/runs")
    """Folder of the records."""
    data: Path | None = None
    """Frames to train on; by default simulated streets."""
    profile: Literal["full", "small", "tiny"] = "full"
    seeds: int | None = None
    """Seeds of each run; by default three of as-it-stood and one of every other."""
    only: tuple[str, ...] = tuple(RUNS)
    """Which of the runs."""
    steps: int | None = None
    """Steps of each run, instead of the profile's."""
    batch_size: int | None = None
    """Frames a step, instead of the profile's."""
    cpu: bool = False
    """Record the full profile on the processor, where there is no CUDA device; about 2.2 s a frame and step on 2 cores."""
    commit: str | None = None
    """Commit of the code, where this copy of it is no repository."""


def record(settings: Record) -> list[Path]:
    """Train what is missing and write its record; a record that is there is left alone."""
    size = named_profile(settings.profile)
    unknown = sorted(set(settings.only) - set(RUNS))
    if unknown:
        raise OcclabError(f"no run named {', '.join(unknown)}; there are {', '.join(RUNS)}")
    for name in ("seeds", "steps", "batch_size"):
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise OcclabError(f"{name} must be at least 1, got {value}")
    if size.name == "full" and not (torch.cuda.is_available() or settings.cpu):
        raise OcclabError(
            "no CUDA device here: a full-scale run would take hours; with --cpu and fewer --steps it can be recorded"
        )
    command = shlex.join(["python", "benchmarks/record.py", *sys.argv[1:]])
    written, about = [], provenance(command, settings.commit)  # of the code that runs, whatever becomes of the tree meanwhile
    for name in settings.only:
        base, changes = RUNS[name]
        own = size.for_recipe() if base == "recommended" else size
        own = replace(own, steps=settings.steps or own.steps, batch_size=settings.batch_size or own.batch_size)
        frames, held_out = split_frames(settings.data, own)
        for seed in range(settings.seeds or (3 if name == "as-it-stood" else 1)):
            folder = settings.out / f"{size.name}-{name}-seed{seed}"
            if (folder / "record.json").exists():
                print(f"{folder} is recorded already")
                continue
            config = apply(Arm(name, changes), preset(base, own, seed=seed, precision=fast_precision()))
            # Not among the other runs: one that is found again may have been made on another device.
            unfinished = settings.out / ".unfinished"
            run = train(config, frames, held_out, name=name, root=unfinished)
            keep(run, frames[0], folder, about)
            shutil.rmtree(unfinished)
            written.append(folder)
            print(f"{folder}: settled at {run.summary['settled_loss']:.3f}, at: {run.summary['floor_name']}")
    return written


def keep(run: Run, frame: Frame, folder: Path, about: dict[str, Any]) -> None:
    """Copy a finished run without its weights, and write its provenance last: a record with record.json is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "scalars.json", "summary.json"):
        shutil.copy(run.folder / name, folder / name)
    predicted = (run.predict(frame) > 0.5).numpy()
    target = occupancy(torch.from_numpy(frame.lidar), run.config.grid)[0].numpy()
    np.savez_compressed(
        folder / "volumes.npz",
        predicted=np.packbits(predicted),
        target=np.packbits(target),
        shape=np.array(predicted.shape, np.int32),
    )
    (folder / "record.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    try:
        record(tyro.cli(Record))
    except OcclabError as error:
        print(f"record: {error}", file=sys.stderr)
        sys.exit(2)
