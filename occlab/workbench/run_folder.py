"""The folders of the runs that a session trains: who has one, what began there, and where a run of its own goes.

They are those of :func:`occlab.training.train`, found by the same hash. A run whose learning rate was moved by hand is no
longer the run of its configuration. It lies in a folder of its own, ``NAME-HASH-2`` and so on, which no configuration's hash
finds; its ``config.json`` says which run it was (``run``) and after which step the rate became what (``rates_by_hand``), and
with that it is as repeatable as any other.
"""

import fcntl
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

from safetensors import SafetensorError, safe_open

from ..errors import OcclabError
from ..frames import Frame
from ..settings import home
from ..training import Run, TrainConfig, load_run, run_hash
from ..training.config import to_dict
from ..training.run import _read_json, _write_json


class TakenError(OcclabError):
    """Another session or process trains in the folder."""


@dataclass(frozen=True)
class Plan:
    """What is trained, and where its folder is to be found."""

    config: TrainConfig
    frames: tuple[Frame, ...]
    held_out: tuple[Frame, ...]
    name: str
    root: Path

    @cached_property
    def identity(self) -> str:
        return run_hash(self.config, self.frames, self.held_out)

    @property
    def folder(self) -> Path:
        """Where :func:`occlab.training.train` keeps this run, or would."""
        found = sorted(self.root.glob(f"*-{self.identity}"))
        return found[0] if found else self.root / f"{self.name}-{self.identity}"

    def new_folder(self) -> Path:
        """A new folder beside it, which its hash does not find."""
        for number in range(2, 1000):
            folder = self.folder.with_name(f"{self.folder.name}-{number}")
            with suppress(FileExistsError):
                folder.mkdir(parents=True)
                return folder
        raise OcclabError(f"{self.folder}: has 998 folders of runs beside it; delete some to make another")

    def describe(self, folder: Path, rates: Mapping[int, float]) -> None:
        """Write ``config.json``."""
        groups = {"frames": self.frames, "held_out": self.held_out}
        described = {name: [{"name": f.name, "fingerprint": f.fingerprint} for f in group] for name, group in groups.items()}
        value: dict[str, Any] = {"config": to_dict(self.config), **described}
        if folder != self.folder:
            by_hand = [{"after_step": after, "learning_rate": rate} for after, rate in sorted(rates.items())]
            value |= {"run": self.identity, "rates_by_hand": by_hand}
        _write_json(folder / "config.json", value)


def hold(folder: Path) -> TextIO:
    """Take a run's folder, as :func:`occlab.training.train` does; to be given back with :func:`release`.

    Raises:
        TakenError: another session or process has it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    except OSError as error:
        raise OcclabError(f"{folder}: cannot be written ({error.strerror or error})") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise TakenError(f"{folder.name}: another session or process trains in this folder; stop it, or wait for it") from None
    for left in folder.glob(".*.*.[0-9]*"):  # half-written by a process that was killed
        left.unlink()
    return file


def release(file: TextIO) -> None:
    fcntl.flock(file, fcntl.LOCK_UN)  # closing is not enough: a process forked meanwhile has the file open too
    file.close()


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    file = hold(folder)
    try:
        yield
    finally:
        release(file)


def start_over(plan: Plan, folder: Path) -> Path:
    """Where the run may begin again at step 0: its folder, emptied, or a new one if the run that the hash finds is finished.

    Raises:
        TakenError: somebody trains in the folder.
    """
    if not folder.exists():
        return folder
    with _held(folder):
        if folder == plan.folder and (folder / "summary.json").exists():
            folder = plan.new_folder()
            plan.describe(folder, {})
            return folder
        # The checkpoint before the log: one that is ahead of its log would be refused.
        for name in ("summary.json", "checkpoint.safetensors", "scalars.json"):
            (folder / name).unlink(missing_ok=True)
        for path in snapshot_paths(folder):
            path.unlink()
    return folder


def unfinished(root: Path | None = None) -> list[Run]:
    """Runs that were begun and not finished, the latest first. A folder that cannot be read is warned of and left out.

    Args:
        root: where run folders lie; by default ``settings.home() / "runs"``.
    """
    found = []
    for path in (root or home() / "runs").glob("*/scalars.json"):
        if not (path.parent / "config.json").exists() or (path.parent / "summary.json").exists():
            continue
        try:
            run, changed = load_run(path.parent), path.stat().st_mtime
        except FileNotFoundError:  # a reset took it away meanwhile
            continue
        except (OcclabError, OSError) as error:
            warnings.warn(str(error), stacklevel=2)
            continue
        if run.steps:
            found.append((changed, run))
    return [run for _, run in sorted(found, key=lambda pair: pair[0], reverse=True)]


def plan_of(folder: Path, frames: tuple[Frame, ...]) -> Plan:
    """The plan of a run's folder.

    Args:
        frames: among which those of the run are, in any order.

    Raises:
        OcclabError: a damaged folder, a frame that is missing, or a run that other code began.
    """
    stored, given = _read_json(folder / "config.json"), {frame.fingerprint: frame for frame in frames}
    config = load_run(folder).config
    groups = []
    for name in ("frames", "held_out"):
        try:
            wanted = [(str(entry["name"]), entry["fingerprint"]) for entry in stored[name]]
        except (KeyError, TypeError) as error:
            where = folder / "config.json"
            raise OcclabError(f"{where}: expected a list {name!r} of names and fingerprints ({error})") from error
        missing = [frame for frame, fingerprint in wanted if fingerprint not in given]
        if missing:
            raise OcclabError(
                f"{folder.name}: needs the frames it was begun with; {len(missing)} of them not given, such as {missing[0]}"
            )
        groups.append(tuple(given[fingerprint] for _, fingerprint in wanted))
    name, _, last = folder.name.rpartition("-")
    identity = stored.get("run", last)
    plan = Plan(config, *groups, name.removesuffix(f"-{identity}"), folder.parent)
    if plan.identity != identity:
        raise OcclabError(f"{folder.name}: was begun by another version of the code or renamed since, and cannot go on")
    return plan


def snapshot_paths(folder: Path) -> list[Path]:
    return [path for path in (folder / "snapshots").glob("*.safetensors") if path.stem.isdigit()]


def rates_by_hand(path: Path) -> dict[int, float]:
    stored = _read_json(path)
    try:
        return {int(entry["after_step"]): float(entry["learning_rate"]) for entry in stored.get("rates_by_hand", [])}
    except (KeyError, TypeError, ValueError) as error:
        raise OcclabError(f"{path}: expected 'rates_by_hand' to list 'after_step' and 'learning_rate' ({error})") from error


def link(path: Path, to: Path) -> None:
    to.parent.mkdir(exist_ok=True)
    try:
        os.link(path, to)  # both are only ever replaced whole
    except OSError:
        shutil.copyfile(path, to)


def checkpoint_step(folder: Path) -> int:
    """Number of updates that a run's checkpoint has made; 0 where there is none."""
    path = folder / "checkpoint.safetensors"
    if not path.exists():
        return 0
    try:
        with safe_open(path, framework="pt") as file:
            return int((file.metadata() or {})["step"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise OcclabError(f"{path}: expected a whole checkpoint ({error})") from error
