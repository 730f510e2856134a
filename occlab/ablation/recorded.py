"""The sweeps that ship in the repository: too long for a reader's machine, made once, with their provenance beside them."""

import json
from typing import Any

from ..errors import OcclabError
from ..frames.catalogue import SAMPLES
from .results import about_path, read_table
from .rows import Row

TABLES = SAMPLES / "tables"


def recorded_table(name: str) -> list[Row]:
    """The rows of a recorded sweep, such as ``five_fixes``; its design is ``notebooks/designs/<name>.yaml``.

    Raises:
        OcclabError: no such table (the sentence names those there are), or one that is damaged or lacks runs.
    """
    rows, runs = read_table(_path(name)), recorded_about(name)["runs"]
    if len(rows) != runs:
        raise OcclabError(f"{_path(name)}: expected {runs} runs, as {about_path(_path(name)).name} says, got {len(rows)}")
    return rows


def recorded_about(name: str) -> dict[str, Any]:
    """Where a recorded sweep comes from: date, command, commit, device, versions, and the text of its design.

    Raises:
        OcclabError: no such table, or nothing beside it that says so.
    """
    path = about_path(_path(name))
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OcclabError(f"{path}: expected as JSON where the table comes from ({error})") from error
    if not isinstance(about, dict) or type(about.get("runs")) is not int:
        raise OcclabError(f"{path}: expected an object with the number of runs, the design and what made them")
    return about


def _path(name: str) -> Any:
    path = TABLES / f"{name}.csv"
    if not path.exists():
        there = ", ".join(sorted(p.stem for p in TABLES.glob("*.csv"))) or "none"
        raise OcclabError(f"no recorded table named {name!r}; there are: {there}")
    return path
