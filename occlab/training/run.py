"""A run is a folder: its configuration, a line for each step, snapshots, a checkpoint and a summary.

    config.json             the configuration and the frames' fingerprints
    scalars.json            one JSON object a line and step, in mmengine's form
    snapshots/000050.safetensors    probabilities of the first frame after 50 steps
    checkpoint.safetensors  weights and optimiser, for resuming
    summary.json            what came out; there once the run is finished

A run is found again by the hash of its configuration and frames: asking twice trains once. A killed run goes on from its
last checkpoint and reaches the same result; no line of the log is ever taken back.
"""

import ast
import fcntl
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..errors import OcclabError
from ..files import write_atomically
from ..frames import Frame
from ..frames.catalogue import SAMPLES
from ..models import OccupancyUNet
from ..settings import home
from .build import build_model
from .checkpoint import load_checkpoint, load_tensors, save_checkpoint, save_tensors
from .config import TrainConfig, from_dict, to_dict
from .data import Batches
from .loop import Step, make_fabric, predict, training_steps
from .optimizer import make_optimizer
from .summary import summarize

CODE = (
    *("grid.py", "voxelize.py", "features.py", "losses.py", "metrics.py", "models/*.py", "diagnosis/floors.py"),
    *("frames/view.py", "training/augmentation.py", "training/build.py", "training/checks.py", "training/config.py"),
    *("training/data.py", "training/loop.py", "training/optimizer.py", "training/run.py", "training/summary.py"),
)
"""Files of the package on which a run's result depends."""

CHECKPOINT_EVERY = 25
"""Steps between checkpoints; a killed run repeats at most as many."""


@dataclass(frozen=True)
class Run:
    """A finished or unfinished run, read from its folder."""

    folder: Path
    config: TrainConfig
    steps: list[Step]
    summary: dict[str, Any] | None
    """None while the run is not finished."""

    def snapshots(self) -> dict[int, Tensor]:
        """Probabilities (Z, Y, X) of the first training frame by step, to 1/256."""
        found = {}
        for path in sorted((self.folder / "snapshots").glob("*.safetensors")):
            bins = load_tensors(path)[0]["p_bins"]
            found[int(path.stem)] = (bins.float() + 0.5) / 256
        return found

    def predict(self, frame: Frame, *, running_statistics: bool = False) -> Tensor:
        """Probabilities (Z, Y, X) of a frame, on the CPU.

        Args:
            running_statistics: use BatchNorm's running averages, as ``model.eval()`` does, and not those of the frame.
        """
        fabric = make_fabric(self.config)
        batch = Batches([frame], self.config, fabric.device).frame(0)
        model = self.model().to(fabric.device)
        return predict(model, batch, fabric, running_statistics=running_statistics)[0].cpu()

    def model(self) -> OccupancyUNet:
        """The trained network, on the CPU, in eval mode."""
        model = OccupancyUNet(self.config.model)
        load_checkpoint(self.folder / "checkpoint.safetensors", model)
        return model.eval()


def run_hash(config: TrainConfig, frames: Sequence[Frame], held_out: Sequence[Frame] = ()) -> str:
    """Identity of a run, 12 hex digits: its configuration, its frames, and the code that its result depends on.

    A run made by other code is another run: a notebook's claims are never checked on a loss that has changed since. What the
    code means counts, not its comments, docstrings and layout. Another version of Python may write the same code as another
    syntax tree, and then trains again.
    """
    prints = [[frame.fingerprint for frame in group] for group in (frames, held_out)]
    identity = json.dumps([to_dict(config), prints, _code()], sort_keys=True)
    return hashlib.sha256(identity.encode()).hexdigest()[:12]


@cache
def _code() -> str:
    package, digest = Path(__file__).parents[1], hashlib.sha256()
    for name in CODE:
        for path in sorted(package.glob(name)):
            digest.update(_meaning(path.read_text(encoding="utf-8")).encode())
    return digest.hexdigest()


def _meaning(code: str) -> str:
    """The syntax tree of a file, without what only people read."""
    return ast.dump(_WithoutProse().visit(ast.parse(code)))


class _WithoutProse(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        prose = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if prose else self.generic_visit(node)


def train(
    config: TrainConfig,
    frames: Sequence[Frame],
    held_out: Sequence[Frame] = (),
    *,
    name: str = "run",
    root: Path | None = None,
    progress: bool = True,
    watch: Callable[[Step], None] | None = None,
) -> Run:
    """Train, or find the run that did, or go on with the one that was killed.

    Args:
        held_out: frames the network never trains on, for the summary.
        name: first part of a new folder's name; the hash follows, and finds it again under any name.
        root: where run folders lie; by default ``settings.home() / "runs"``.
        progress: show a bar.
        watch: called with every new step.

    Raises:
        OcclabError: bad frames or settings; a loss that is no longer finite.
    """
    root, identity = root or home() / "runs", run_hash(config, frames, held_out)
    folder = next(iter(sorted(root.glob(f"*-{identity}"))), root / f"{name}-{identity}")
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / ".lock"):
        if (folder / "summary.json").exists():
            return load_run(folder)
        _write_json(
            folder / "config.json",
            {
                "config": to_dict(config),
                "frames": [{"name": frame.name, "fingerprint": frame.fingerprint} for frame in frames],
                "held_out": [{"name": frame.name, "fingerprint": frame.fingerprint} for frame in held_out],
            },
        )
        fabric = make_fabric(config)
        batches = Batches(frames, config, fabric.device)
        model = build_model(config, batches).to(fabric.device)
        optimizer = make_optimizer(model, config)
        checkpoint, start = folder / "checkpoint.safetensors", 0
        if checkpoint.exists():
            start = load_checkpoint(checkpoint, model, optimizer)
        steps = _repair_log(folder / "scalars.json")
        logged = len(steps)
        if [s.step for s in steps] != list(range(1, logged + 1)) or logged < start:
            raise OcclabError(
                f"{folder / 'scalars.json'}: expected every step from 1 to at least {start}, which the checkpoint has made; "
                "delete the run's folder to train again"
            )

        def snapshot(step: int) -> None:
            if step in config.snapshot_steps:
                p = predict(model, batches.frame(0), fabric, running_statistics=False)[0]
                bins = (torch.ceil(p * 256) - 1).clamp_(min=0).to(torch.uint8)  # p > 1/2 stays exactly "bin >= 128"
                (folder / "snapshots").mkdir(exist_ok=True)
                save_tensors(folder / "snapshots" / f"{step:06d}.safetensors", {"p_bins": bins})

        if start == 0:
            snapshot(0)
        running = training_steps(model, batches, config, optimizer=optimizer, start=start, fabric=fabric)
        bar = tqdm(running, total=config.steps, initial=start, desc=name, unit="step", disable=not progress, mininterval=0.5)
        with (folder / "scalars.json").open("a", encoding="utf-8") as log:
            for step in bar:
                if step.step > logged:  # steps repeated since the checkpoint are in the log already
                    log.write(json.dumps(_to_row(step)) + "\n")
                    log.flush()
                    steps.append(step)
                bar.set_postfix_str(f"loss {step.loss:.3f}", refresh=False)
                snapshot(step.step)
                if step.step % CHECKPOINT_EVERY == 0 or step.step == config.steps:
                    os.fsync(log.fileno())  # the log is never behind the checkpoint, not even after a power cut
                    save_checkpoint(checkpoint, model, optimizer, step.step)
                if watch is not None:
                    watch(step)
        held_out_batches = Batches(held_out, config, fabric.device) if held_out else None
        _write_json(folder / "summary.json", summarize(config, steps, model, batches, held_out_batches, fabric))
    return load_run(folder)


def load_run(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        OcclabError: a file that is missing or damaged, by name.
    """
    stored = _read_json(folder / "config.json")
    if not isinstance(stored, dict) or "config" not in stored:
        raise OcclabError(f"{folder / 'config.json'}: expected an object with the key 'config'")
    summary = _read_json(folder / "summary.json") if (folder / "summary.json").exists() else None
    config = from_dict(stored["config"], str(folder / "config.json"))
    return Run(folder, config, read_steps(folder / "scalars.json"), summary)


def recorded_runs() -> dict[str, Run]:
    """The full-scale runs that ship in the repository's ``data_samples/runs``, by folder name; without weights.

    Each folder's ``record.json`` names the device, the versions, the commit and the command.
    """
    folders = sorted(path.parent for path in (SAMPLES / "runs").glob("*/record.json"))
    return {folder.name: load_run(folder) for folder in folders}


def read_steps(path: Path) -> list[Step]:
    """The steps of a ``scalars.json`` of ours; a last line cut short by a kill is left out."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    steps = []
    for number, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), start=1):
        try:
            steps.append(_from_row(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            raise OcclabError(f"{path}, line {number}: expected one JSON object of a training step ({error})") from error
    return steps


def _repair_log(path: Path) -> list[Step]:
    """Cut off a last line that a kill left unfinished, so that what is appended starts on a line of its own."""
    steps = read_steps(path)
    if path.exists():
        with path.open("rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)
    return steps


def _to_row(step: Step) -> dict[str, Any]:
    # mmengine's LoggerHook names: lr, loss, loss_*, grad_norm, time, iter, step.
    return {
        "lr": step.learning_rate,
        "loss": step.loss,
        **{f"loss_{name}": value for name, value in step.terms.items()},
        "grad_norm": step.grad_norm,
        "clip_coefficient": step.clip_coefficient,
        "update_ratio": step.update_ratio,
        "iou": step.iou,
        "time": step.seconds,
        "iter": step.step,
        "step": step.step,
    }


def _from_row(row: dict[str, Any]) -> Step:
    return Step(
        step=int(row["step"]),
        loss=float(row["loss"]),
        terms={name.removeprefix("loss_"): float(value) for name, value in row.items() if name.startswith("loss_")},
        grad_norm=float(row["grad_norm"]),
        clip_coefficient=float(row["clip_coefficient"]),
        update_ratio=float(row["update_ratio"]),
        learning_rate=float(row["lr"]),
        iou=float(row["iou"]),
        seconds=float(row["time"]),
    )


def _write_json(path: Path, value: Any) -> None:
    write_atomically(path, lambda partial: partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8"))


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OcclabError(f"{path}: expected a JSON file of a run ({error})") from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time trains in a folder; the second waits and then finds the finished run."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another process trains in {path.parent.name}; waiting for it", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        for left in path.parent.glob(".*.*.[0-9]*"):  # half-written by a process that was killed
            left.unlink()
        yield
