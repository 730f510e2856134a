"""The sweeps that ship in the repository: too long for a reader's machine, made once, with their provenance beside them."""

import json
from typing import Any

from ..errors import OcclabError
from ..frames.catalogue import SAMPLES
from .results import read_table
from .rows import Row

TABLES = SAMPLES / "tables"


def recorded_table(name: str) -> list[Row]:
    """The rows of a recorded sweep, such as ``five_fixes``; its design is ``notebooks/designs/<name>.yaml``.

    Raises:
        OcclabError: no such table (the sentence names those there are), or one that is damaged.
    """
    return read_table(_path(name))


def recorded_about(name: str) -> dict[str, Any]:
    """Where a recorded sweep comes from: date, command, commit, device, versions, and the text of its design."""
    return json.loads(_path(name).with_suffix(".json").read_text(encoding="utf-8"))


def _path(name: str) -> Any:
    path = TABLES / f"{name}.csv"
    if not path.exists():
        there = ", ".join(sorted(p.stem for p in TABLES.glob("*.csv"))) or "none"
        raise OcclabError(f"no recorded table named {name!r}; there are: {there}")
    return path
