"""What a sweep says: its table as a file, each arm over its seeds, and the comparisons that the design asks for."""

import csv
import json
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from ..errors import OcclabError, require
from ..files import write_atomically
from ..provenance import provenance
from .correction import corrected
from .design_file import Design
from .designs import Arm
from .effects import Effect, coded, effects
from .rows import COLUMNS, Row
from .statistics import Comparison, compare
from .table import by_arm

MEASURES = {
    "held_out_iou": True,
    "held_out_average_precision": True,
    "training_iou": True,
    "floor_distance": False,
    "settled_loss": False,
}
"""Measures by which arms are compared, and whether higher is better. A settled loss is one thing only among arms with the same
loss and targets; ``floor_distance`` relates each to its own floor."""

SUMMARIZED = (
    *("settled_loss", "half_floor", "floor_distance", "training_iou", "held_out_iou", "held_out_iou_running"),
    *("held_out_iou_reestimated", "held_out_best_iou", "held_out_average_precision", "input_iou", "seconds"),
)


def write_table(
    rows: Sequence[Row],
    path: Path,
    *,
    design: str | None = None,
    command: str | None = None,
    made: dict[str, Any] | None = None,
) -> None:
    """Write a row a run as CSV or Parquet, by the name's ending, and ``<name>.about.json`` beside it with where it comes from.

    Numbers keep all their digits, for pandas too: before 3.1 with ``pd.read_csv(path, float_precision="round_trip")``.

    Args:
        design: text of the design's file.
        command: what somebody else types to get the same; by default this process's own command line.
        made: the provenance, where it was taken before the runs, of the code that made them.

    Raises:
        OcclabError: another ending, Parquet without pyarrow, or a file that cannot be written.
    """
    path = Path(path)
    write = _by_ending(path, _write_csv, _write_parquet)
    write_atomically(path, lambda partial: write(rows, partial))
    made = made or provenance(command or shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]), threads=False)
    text = json.dumps(made | {"runs": len(rows), "design": design}, indent=1) + "\n"
    write_atomically(about_path(path), lambda partial: partial.write_text(text, encoding="utf-8"))


def about_path(path: Path) -> Path:
    """The file beside a table that says where it comes from; its name differs from that of the results as JSON."""
    return path.with_suffix(".about.json")


def read_table(path: Path) -> list[Row]:
    """The rows that :func:`write_table` wrote, equal to the last digit; ``pd.DataFrame(read_table(path))`` is a frame.

    Raises:
        OcclabError: no such file, or one that is damaged or no table of runs.
    """
    path = Path(path)
    return _by_ending(path, _read_csv, _read_parquet)(path)


def check_path(path: Path) -> None:
    """Refuse a table that could not be written, before an hour of training.

    Raises:
        OcclabError: another ending than .csv and .parquet, or Parquet without pyarrow.
    """
    if _by_ending(path, "csv", "parquet") == "parquet":
        require("pyarrow.parquet", package="pyarrow", extra="sweep")


def _by_ending(path: Path, csv_: Any, parquet: Any) -> Any:
    if path.suffix not in (".csv", ".parquet"):
        raise OcclabError(f"{path}: a table's name must end with .csv or .parquet")
    return csv_ if path.suffix == ".csv" else parquet


def _write_csv(rows: Sequence[Row], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(COLUMNS), lineterminator="\n")
        writer.writeheader()
        for row in rows:  # a float is written as repr does, and reads back exactly
            # A lone carriage return, as in the error of a progress bar, would end the line.
            cells = {name: re.sub("\r\n?", "\n", cell) if isinstance(cell, str) else cell for name, cell in row.items()}
            writer.writerow(cells)


def _read_csv(path: Path) -> list[Row]:
    try:
        text = path.read_bytes().decode("utf-8")  # line ends as they are: a cell may hold some
        header, *lines = list(csv.reader(StringIO(text, newline=""))) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise OcclabError(f"{path}: expected a table of runs as CSV ({error})") from error
    if header != list(COLUMNS):
        raise OcclabError(f"{path}: expected the columns {', '.join(COLUMNS)}, got {', '.join(header) or 'none'}")
    if not text.endswith("\n"):
        raise OcclabError(f"{path}: the last line is cut short: expected a table as it was written")
    rows = []
    for number, cells in enumerate(lines, start=2):
        try:
            row = {name: _parse(name, cell) for name, cell in zip(COLUMNS, cells, strict=True)}
            if lacking := [name for name in ("arm", "seed", "status") if row[name] is None]:
                raise ValueError(f"every run has its {lacking[0]}")
            rows.append(row)
        except ValueError as error:
            raise OcclabError(f"{path}, line {number}: expected a run in {len(COLUMNS)} columns ({error})") from error
    return rows


def _parse(name: str, cell: str) -> Any:
    if cell == "":
        return "" if name == "group" else None
    if COLUMNS[name] is bool:
        if cell not in ("True", "False"):
            raise ValueError(f"{name} must be True or False, got {cell!r}")
        return cell == "True"
    try:
        return COLUMNS[name](cell)
    except ValueError:
        raise ValueError(f"{name} must be a number, got {cell!r}") from None


def _schema() -> Any:
    pyarrow = require("pyarrow", extra="sweep")
    kinds = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64(), bool: pyarrow.bool_()}
    return pyarrow.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])


def _write_parquet(rows: Sequence[Row], path: Path) -> None:
    parquet, pyarrow = require("pyarrow.parquet", package="pyarrow", extra="sweep"), require("pyarrow", extra="sweep")
    parquet.write_table(pyarrow.Table.from_pylist(list(rows), schema=_schema()), path)


def _read_parquet(path: Path) -> list[Row]:
    parquet, pyarrow = require("pyarrow.parquet", package="pyarrow", extra="sweep"), require("pyarrow", extra="sweep")
    try:
        table = parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        reason = str(error).strip().partition("\n")[0]
        raise OcclabError(f"{path}: expected a table of runs as Parquet ({reason})") from error
    if not table.schema.equals(_schema()):
        raise OcclabError(f"{path}: expected the columns {', '.join(COLUMNS)}, got {', '.join(table.column_names) or 'none'}")
    return table.to_pylist()


def summary_of_arms(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Each arm over its seeds: how many runs were done and how many failed, and mean, sd, min and max of each measure; None
    for a measure that no run has, and for the sd of one run."""
    arms: dict[str, list[Row]] = {}
    for row in rows:
        arms.setdefault(row["arm"], []).append(row)
    found = []
    for name, all_ in arms.items():
        done = [row for row in all_ if row["status"] == "done"]
        about = {"arm": name, "group": all_[0]["group"], "against": all_[0]["against"]}
        counts = {"n": len(done), "failed": len(all_) - len(done)}
        found.append(about | counts | {measure: _spread([row[measure] for row in done]) for measure in SUMMARIZED})
    return found


def _spread(values: Sequence[float | None]) -> dict[str, float | None] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    sd = stdev(known) if len(known) > 1 else None
    return {"mean": fmean(known), "sd": sd, "min": min(known), "max": max(known)}


def compare_arms(rows: Sequence[Row], measure: str, higher_is_better: bool) -> dict[str, Comparison]:
    """Each arm against the arm that its design compares it with, by name; with Holm's correction within each group.

    Raises:
        OcclabError: the table lacks the measure, or an arm that another one is compared with.
    """
    values, found = by_arm(rows, measure), {}
    groups: dict[str, dict[str, str]] = {}
    for row in rows:
        if row["against"] is not None:
            groups.setdefault(row["group"], {})[row["arm"]] = row["against"]
    for pairs in groups.values():
        for against in pairs.values():
            if against not in values:
                raise OcclabError(f"the table has no run of arm {against!r}, with which others are compared")
        made = {arm: compare(values[against], values[arm], higher_is_better=higher_is_better) for arm, against in pairs.items()}
        found |= corrected(made)
    return found


def effects_of(design: Design, rows: Sequence[Row], measure: str, higher_is_better: bool) -> dict[str, list[Effect]]:
    """The effects of a two-level factorial for each group, with Holm's correction over the effects of a group; for several
    groups also those of the design as a whole, under "all", where what the groups differ in is one more factor. Empty where
    the design is no factorial, or has factors of more levels.
    """
    values = by_arm(rows, measure)
    groups: dict[str, list[Arm]] = {}
    for arm in design.arms:
        groups.setdefault(arm.group, []).append(arm)
    if len(groups) > 1:
        groups["all"] = list(design.arms)
    found = {}
    for group, arms in groups.items():
        if not all(arm.levels for arm in arms) or any(level > 1 for arm in arms for level in arm.levels.values()):
            continue
        columns = {name: column for name, column in coded(arms).items() if len(set(column)) > 1}  # constant: the group's own
        made = effects(columns, [values.get(arm.name, {}) for arm in arms], higher_is_better=higher_is_better)
        judged = corrected({effect.name: effect.comparison for effect in made})
        found[group] = [replace(effect, comparison=judged[effect.name]) for effect in made]
    return found
