"""Which logs lie in a folder, and which of them are pieces of one run."""

import calendar
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from .lines import clean
from .names import TRAINING_WORDS, VALIDATION_WORDS, words

DEPTH = 8
ENTRIES = 50_000
_STAMP = re.compile(r"(20\d{6}_\d{6})")
_UNIX = re.compile(r"tfevents\.(\d{9,11})\.")
_UNIX_FOLDER = re.compile(r"\d{9,11}\.\d{1,9}")
_VERSION = re.compile(r"version_(\d{1,9})")


@dataclass(frozen=True)
class RunFiles:
    """The pieces of a run, oldest first, all of one format."""

    pieces: tuple[Path, ...]
    kind: str


def find_logs(folder: Path | str) -> list[Path]:
    """The training logs in a folder and the folders in it, those of the newest run first.

    They are known by their names: ``*.log.json``, ``*.log``, ``scalars.json``, ``metrics.csv``, ``*tfevents*``. Of a run
    that is logged in several formats the fullest is named: JSON, then text, then events.
    """
    return [path for run in find_runs(Path(folder)) for path in reversed(run.pieces)]


def find_runs(folder: Path) -> list[RunFiles]:
    """The runs in a folder, newest first."""
    kinds = {path: kind for path in _files(folder) if (kind := _kind(path))}
    kinds = {path: kind for path, kind in kinds.items() if not _said_elsewhere(path, kind, kinds)}
    logged = {path.parent for path, kind in kinds.items() if kind != "events"}
    with_events = {path.parent for path, kind in kinds.items() if kind == "events"}
    runs: dict[tuple[Path, str], list[Path]] = {}
    for path, kind in kinds.items():
        if kind == "events":
            if not logged.isdisjoint(_up(path.parent, folder, 3)):
                continue
            if _UNIX_FOLDER.fullmatch(path.parent.name) and path.parent.parent in with_events:  # of add_hparams
                continue
            home = _events_home(path.parent, folder, with_events)
        else:
            home = _home(path, kind)
        runs.setdefault((home, kind), []).append(path)
    found = [RunFiles(tuple(sorted(pieces, key=_age)), kind) for (_, kind), pieces in runs.items()]
    return sorted(found, key=lambda run: _age(run.pieces[-1]), reverse=True)


def _files(folder: Path) -> list[Path]:
    found, seen = [], 0
    for root, folders, files in os.walk(folder):  # links to folders are not followed
        seen += len(folders) + len(files)
        if seen > ENTRIES:
            break
        folders.sort()
        if len(Path(root).relative_to(folder).parts) >= DEPTH:
            folders.clear()
        found += [path for name in sorted(files) if _kind(path := Path(root, name)) and _size(path)]
    return found


def _kind(path: Path) -> str:
    name = path.name
    if "tfevents" in name:
        return "events"
    if name.endswith((".log.json", "scalars.json")) or re.fullmatch(r"20\d{6}_\d{6}\.json", name):
        return "json"
    return "csv" if name.endswith("metrics.csv") else "text" if name.endswith(".log") else ""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0


def _said_elsewhere(path: Path, kind: str, others: dict[Path, str]) -> bool:
    """Whether another file holds the same rows, and more exactly."""
    if kind == "text":
        return path.with_name(path.name + ".json") in others or path.parent / "vis_data" / "scalars.json" in others
    copy = kind == "json" and not path.name.endswith((".log.json", "scalars.json"))
    return copy and path.with_name("scalars.json") in others


def _home(path: Path, kind: str) -> Path:
    """The folder that stands for the run of a file."""
    parent = path.parent
    if kind == "csv":
        return path
    if parent.name == "vis_data":  # work_dir/<time>/vis_data/scalars.json
        parent = parent.parent
    return parent.parent if _STAMP.fullmatch(parent.name) else parent


def _events_home(parent: Path, top: Path, with_events: set[Path]) -> Path:
    """The folder that stands for the run of event files. Keras writes run/train and run/validation, ``add_scalars`` of PyTorch
    run/Loss_train, that of tensorboardX run/Loss/train."""
    if parent == top or (TRAINING_WORDS | VALIDATION_WORDS).isdisjoint(words(parent.name)):
        return parent
    above = parent.parent
    if above in with_events:
        return above
    if above != top and above.parent in with_events:
        return above.parent
    said = {word for folder in with_events if folder.parent == above for word in words(folder.name)}
    both = not TRAINING_WORDS.isdisjoint(said) and not VALIDATION_WORDS.isdisjoint(said)
    return above if both else parent  # else two runs that are called train_1 and train_2 would be one


def _up(folder: Path, top: Path, levels: int) -> list[Path]:
    """A folder and those above it, up to the top one."""
    found = []
    while len(found) < levels:
        found.append(folder)
        if folder == top or folder == folder.parent:
            break
        folder = folder.parent
    return found


def _age(path: Path) -> tuple[float, int, str]:
    """What sorts logs by time: the time in the name, else that of the last change; versions by their number."""
    place = f"{path.parent.parent.name}/{path.parent.name}/{path.name}"
    if stamps := _STAMP.findall(place):
        try:
            return calendar.timegm(time.strptime(stamps[-1], "%Y%m%d_%H%M%S")), 0, place
        except ValueError:
            pass
    if unix := _UNIX.search(path.name):
        return float(unix[1]), 0, place
    version = _VERSION.search(path.parent.name)
    try:
        changed = (path.parent.parent if version else path).stat().st_mtime
    except OSError:
        changed = 0.0
    return changed, int(version[1]) if version else 0, place


def named(paths: list[Path], folder: Path) -> str:
    """Some of the files, for a note."""
    shown = [clean(path.relative_to(folder)) for path in paths[:5]]
    more = len(paths) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
