"""Reading a training log whatever wrote it: the format is told from the content."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np

from ...errors import OcclabError
from .event_file import is_event_file
from .folder import RunFiles, find_runs, named
from .hparams import occlab_settings
from .json_rows import json_rows
from .lightning import is_header, read_csv
from .lines import Lines, clean, head, text_of
from .log import LogSettings, TrainingLog
from .mm_config import LONGEST, MmConfig, read_mm_config
from .rows import Found, Row, RowCollector
from .tensorboard import read_events
from .text_rows import text_rows

Kind = Literal["events", "csv", "json", "text"]

FORMATS = "mmcv, mmengine, Lightning, TensorBoard or occlab"


def read_log(path: Path | str) -> TrainingLog:
    """Read a training log, or the newest one in a folder. A log of any length is read in bounded memory.

    mmcv 1.x (text and ``.log.json``), mmengine (text and ``scalars.json``), Lightning's ``metrics.csv``, TensorBoard
    events, and occlab's own runs.

    Raises:
        OcclabError: no such file, or nothing in it that is understood as a training log.
    """
    path = Path(path)
    try:
        if not path.is_dir():
            return _read_run(RunFiles((path,), ""))
    except ValueError as error:
        raise OcclabError(f"{clean(path)}: cannot be read ({error})") from error
    runs, failures = find_runs(path), []
    for number, run in enumerate(runs):
        try:
            log = _read_run(run)
        except OcclabError as error:
            failures.append((run, error))
            continue
        others = [other.pieces[-1] for other in runs[number + 1 :]]
        notes = [f"The newest log is read; not read: {named(others, path)}."] if others else []
        notes += [f"{named([run.pieces[-1]], path)} holds no training that could be read." for run, _ in failures[:3]]
        return replace(log, notes=(*notes, *log.notes))
    if failures:
        raise failures[0][1]
    raise OcclabError(f"{clean(path)}: expected a folder with a log of {FORMATS} in it, found none")


def _read_run(run: RunFiles) -> TrainingLog:
    newest = run.pieces[-1]
    kind = sniff(newest)
    if kind == "events":
        return read_events([piece for piece in run.pieces if is_event_file(_start(piece))])
    if kind == "csv":
        return read_csv(newest)
    pieces, left_out = _resumed([piece for piece in run.pieces if piece == newest or _sniffed(piece) == kind])
    log = _read_rows(pieces, kind)
    if len(pieces) > 1:
        log = replace(log, notes=(f"{len(pieces)} files of a run that was resumed are read as one.", *log.notes))
    if left_out:
        note = f"The newest log is read; {len(left_out)} earlier ones beside it begin anew and are not read."
        log = replace(log, notes=(note, *log.notes))
    return log


def sniff(path: Path) -> Kind:
    """What kind of file a log is, by its beginning.

    Raises:
        OcclabError: no such file, empty, or binary without being an event file.
    """
    start = head(path)
    if is_event_file(start):
        return "events"
    if _is_binary(start):
        raise OcclabError(f"{clean(path)}: expected a log as text or TensorBoard events, got a binary file")
    lines = [line for line in islice(Lines(path), 200) if line and not line.isspace()]
    if lines and not lines[0].lstrip().startswith("{") and is_header(lines[0]):
        return "csv"
    objects = sum(line.lstrip().startswith("{") for line in lines)
    return "json" if objects > 0.5 * len(lines) else "text"


def _is_binary(start: bytes) -> bool:
    """Whether bytes are no text in UTF-8 or, with its mark, UTF-16. Some NULs are no sign: a crash leaves them in a log."""
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return False
    text = start.decode("utf-8", "replace")
    nul = text.count("\0")
    odd = sum(c == "\ufffd" or (c < " " and c not in "\0\t\n\v\f\r\b\x1b") for c in text)
    return odd > 0.1 * len(text) or nul > 0.5 * len(text)


def _start(path: Path) -> bytes:
    try:
        return head(path)
    except OcclabError:  # one empty piece does not hide the others
        return b""


def _sniffed(path: Path) -> str:
    try:
        return sniff(path)
    except OcclabError:
        return ""


def _rows(path: Path, kind: Kind, found: Found) -> Iterator[Row]:
    lines = Lines(path)
    yield from (json_rows if kind == "json" else text_rows)(lines, found)
    found.too_long += lines.left_out


def _resumed(pieces: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Of a run's pieces, oldest first, those that belong to the newest training, and those before it.

    A piece that begins in a later epoch, or behind its own logging interval, goes on from the one before it.
    """
    first = len(pieces) - 1
    while first > 0:
        kind = _sniffed(pieces[first])
        rows = list(islice((row for row in _rows(pieces[first], kind, Found()) if not row.validation), 2)) if kind else []
        begins = not rows or rows[0].epoch > 1
        if rows and not rows[0].epoch and len(rows) > 1:
            begins = rows[0].iteration > rows[1].iteration - rows[0].iteration
        if not begins:
            break
        first -= 1
    return list(pieces[first:]), list(pieces[:first])


def _read_rows(pieces: Sequence[Path], kind: Kind) -> TrainingLog:
    newest, found = pieces[-1], Found()
    twin = _twin(newest, kind) if len(pieces) == 1 else None
    if twin is not None:
        found.epoch_length = twin.epoch_length
    collector = RowCollector(found)
    for piece in pieces:
        collector.collect(_rows(piece, kind, found))
    if not collector.rows:
        raise OcclabError(f"{clean(newest)}: expected a log of {FORMATS}, found nothing that looks like a training row")
    if found.form == "occlab run" and (settings := occlab_settings(newest.parent)):
        return collector.log(newest, settings, window=1)
    config = _config(newest, kind, found)
    found.notes += config.notes
    mmcv = found.form in ("mmcv text", "mmcv json")
    window = 1 if found.form == "occlab run" else None if mmcv else config.window
    log = collector.log(newest, config.settings, window=window, windowed=mmcv, epochs=config.epochs)
    return _with_rates(log, twin) if found.form == "mmcv json" else log


class _Twin:
    """mmcv's text log beside its JSON: the same rows, with the length of an epoch and learning rates to four digits."""

    def __init__(self, path: Path) -> None:
        found = Found()
        collector = RowCollector(found)
        collector.collect(_rows(path, "text", found))
        self.epoch_length = found.epoch_length
        self.log = collector.log(path, LogSettings(), window=None) if collector.rows else None


def _twin(path: Path, kind: Kind) -> _Twin | None:
    other = path.with_name(path.name.removesuffix(".json"))
    if kind != "json" or not path.name.endswith(".log.json") or not other.is_file():
        return None
    try:
        return _Twin(other)
    except OcclabError:
        return None


def _with_rates(log: TrainingLog, twin: _Twin | None) -> TrainingLog:
    """mmcv's JSON rounds every number to five decimals, so that a learning rate of 2e-6 becomes 0."""
    rate = log.training.get("learning_rate")
    if rate is None or not (np.abs(rate.value) < 1e-3).any():
        return log
    exact = twin.log.training.get("learning_rate") if twin and twin.log else None
    if exact is not None and len(exact.step):
        note = f"Learning rates are those of {clean(twin.log.path.name)}, because the JSON rounds them to five decimals."
        return replace(log, training={**log.training, "learning_rate": exact}, notes=(*log.notes, note))
    return replace(log, notes=(*log.notes, "Learning rates are rounded to five decimals in this log; 0 may be up to 5e-6."))


def _config(path: Path, kind: Kind, found: Found) -> MmConfig:
    """The configuration that the log itself carries, else that of its JSON twin, else the one file beside it."""
    if found.config:
        return read_mm_config(found.config)
    beside = path.with_name(path.name + ".json")
    if kind == "text" and beside.is_file():
        meta = Found()
        next(json_rows(islice(Lines(beside), 5), meta), None)
        found.seed = found.seed if found.seed is not None else meta.seed
        if meta.config:
            return read_mm_config(meta.config)
    for folder in (path.parent, path.parent / "vis_data", path.parent.parent, path.parent.parent.parent):
        own = folder / "config.py"
        files = [own] if own.is_file() else sorted(folder.glob("*.py"))[:2]
        is_work = folder in (path.parent, path.parent / "vis_data") or _is_work_dir(folder, path)
        if len(files) == 1 and is_work:
            config = read_mm_config(text_of(files[0], LONGEST))
            if config.settings.optimizer:
                return config
    return MmConfig(LogSettings())


def _is_work_dir(folder: Path, path: Path) -> bool:
    """Whether a folder above a log is mmengine's work_dir, which holds <time>/vis_data/scalars.json and <time>/<time>.log."""
    inner = path.parent.parent if path.parent.name == "vis_data" else path.parent
    return inner.parent == folder and inner.name[:2] == "20"
