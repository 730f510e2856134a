"""Record full-scale runs, with all that is needed to believe and repeat them.

    python benchmarks/record.py                          on a machine with CUDA, simulated streets
    python benchmarks/record.py --data FOLDER            frames made elsewhere: a GPU machine needs no Open3D
    python benchmarks/record.py --profile tiny --seeds 1 --steps 20 --out build/recorded     the same at a small size, to try it

Each run becomes a folder in data_samples/recorded/: config.json, scalars.json and summary.json as the training wrote
them, the last snapshot of the first seed, and record.json with device, versions, commit and command. Weights are left out.
"""

import json
import platform
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

import occlab
from occlab import OcclabError
from occlab.settings import profile as named_profile
from occlab.training import Run, fast_precision, preset, split_frames, train

RUNS = {
    "as-it-stood": {},
    "free-output": {"head": "logits"},
    "repaired": {"preset": "repaired"},
}
"""What is recorded: name -> changes to the preset as-it-stood."""


@dataclass(frozen=True)
class Record:
    """What to record, and where."""

    out: Path = Path("data_samples/recorded")
    """Folder of the records."""
    data: Path | None = None
    """Frames to train on; by default simulated streets."""
    profile: Literal["full", "small", "tiny"] = "full"
    seeds: int = 3
    steps: int | None = None
    """Steps of each run, instead of the profile's."""
    commit: str | None = None
    """Commit of the code, where this copy of it is no repository."""


def record(settings: Record) -> list[Path]:
    """Train what is missing and write its record; a record that is there is left alone."""
    size = named_profile(settings.profile)
    if size.name == "full" and not torch.cuda.is_available():
        raise OcclabError("no CUDA device here: a full-scale run would take hours; try --profile small for a smaller record")
    frames, held_out = split_frames(settings.data, size)
    written = []
    for name, changes in RUNS.items():
        for seed in range(settings.seeds):
            folder = settings.out / f"{size.name}-{name}-seed{seed}"
            if (folder / "record.json").exists():
                print(f"{folder} is recorded already")
                continue
            arguments = {"preset": "as-it-stood", "steps": settings.steps or size.steps, **changes}
            config = preset(
                arguments.pop("preset"),
                size,
                seed=seed,
                precision=fast_precision(),
                snapshot_steps=(arguments["steps"],) if seed == 0 else (),
                **arguments,
            )
            run = train(config, frames, held_out, name=f"record-{name}")
            keep(run, folder, provenance(settings.commit))
            written.append(folder)
            print(f"{folder}: settled at {run.summary['settled_loss']:.3f}, nearest floor {run.summary['floor_name']}")
    return written


def keep(run: Run, folder: Path, about: dict[str, Any]) -> None:
    """Copy a finished run without its weights, and write its provenance last: a record with record.json is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "scalars.json", "summary.json"):
        shutil.copy(run.folder / name, folder / name)
    if (run.folder / "snapshots").is_dir():
        shutil.copytree(run.folder / "snapshots", folder / "snapshots", dirs_exist_ok=True)
    (folder / "record.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def provenance(commit: str | None = None) -> dict[str, Any]:
    """The machine and the code, as far as somebody else needs them."""
    cuda = torch.cuda.is_available()
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "command": shlex.join(["python", "benchmarks/record.py", *sys.argv[1:]]),
        "commit": commit or _commit(),
        "device": torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine(),
        "cuda": torch.version.cuda if cuda else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "occlab": occlab.__version__,
    }


def _commit() -> str:
    """The commit, with "+" where the tree differs from it; "unknown" outside a repository."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


if __name__ == "__main__":
    try:
        record(tyro.cli(Record))
    except OcclabError as error:
        print(f"record: {error}", file=sys.stderr)
        sys.exit(2)
