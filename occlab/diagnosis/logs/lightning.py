"""Lightning's ``metrics.csv``: a row for each call of ``log``, empty cells where a quantity was not part of it.

Columns are read one by one; of several rows of one step the last that has a value counts. Source: lightning-fabric
``loggers/csv_logs.py``; columns are in alphabetical order since 2.2, in the order of first appearance before.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from ...errors import OcclabError
from .assemble import assemble, interval, main_series
from .curves import Curves
from .hparams import hparams_beside
from .lines import Lines, clean, whole
from .log import TrainingLog
from .names import is_validation, recognise

COLUMNS = 2000
_PLACE = {"step", "epoch", "time", "created_at"}


def is_header(line: str) -> bool:
    """Whether a line names the columns of such a file."""
    cells = _cells(line)
    return len(cells) > 1 and ("step" in cells or "epoch" in cells)


def read_csv(path: Path) -> TrainingLog:
    """The log in a ``metrics.csv``.

    Raises:
        OcclabError: no training row in it, or not readable.
    """
    lines, curves = Lines(path), Curves()
    rows = validation_rows = not_understood = 0
    clock, place, columns = "step", 0, []
    for cells in _rows(lines):
        if "step" in cells or "epoch" in cells:  # the header, once more where files were put together
            clock = "step" if "step" in cells else "epoch"
            columns = [(i, name, is_validation(name)) for i, name in enumerate(cells[:COLUMNS]) if name and name not in _PLACE]
            place = cells.index(clock)
            continue
        step = _step(cells[place]) if columns and place < len(cells) else None
        if step is None:
            not_understood += 1
            continue
        values: tuple[list, list] = ([], [])
        for i, name, validation in columns:
            if i < len(cells) and cells[i]:
                try:
                    values[validation].append((name, float(cells[i])))
                except ValueError:  # a text, or a cell that was cut
                    continue
        if values[0]:
            rows += 1
            curves.add(curves.training, step, values[0])
        if values[1]:
            validation_rows += 1
            curves.add(curves.validation, step, values[1])
    if not curves.training:
        raise OcclabError(f"{clean(path)}: expected training rows, found no column of training with a value in it")
    settings, notes = hparams_beside(path)
    if clock == "epoch":
        notes.append("There is no column of steps: epochs stand for them.")
    if not_understood:
        notes.append(f"{not_understood} lines were not understood.")
    if lines.left_out:
        notes.append(f"{lines.left_out} lines of over 1 MB are left out.")
    return assemble(
        path,
        "Lightning csv",
        curves,
        settings=settings,
        rows=rows,
        validation_rows=validation_rows,
        notes=notes,
        window=_window(curves),
    )


def _window(curves: Curves) -> int | None:
    """A column ``..._step`` holds each step's own value, ``..._epoch`` the mean of an epoch; a plain one does not say."""
    names, _ = recognise({name: series.seen for name, series in curves.training.items()})
    name = names.get("loss", "")
    if name.endswith("_step"):
        return 1
    return interval(main_series(curves), lambda raw: raw) if name.endswith("_epoch") else None


def _rows(lines: Lines) -> Iterator[list[str]]:
    for line in lines:
        if line and not line.isspace():
            yield _cells(line)


def _cells(line: str) -> list[str]:
    if '"' not in line:
        return [cell.strip() for cell in line.split(",")]
    try:
        return [cell.strip() for cell in next(csv.reader([line]))]
    except (csv.Error, StopIteration):
        return []


def _step(cell: str) -> int | None:
    try:
        return whole(float(cell))
    except ValueError:
        return None
