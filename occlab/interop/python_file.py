"""What a configuration file holds: plain values, where they stand, and what could not be known."""

import reprlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import OcclabError

MOST_BYTES = 1_000_000
MOST_VALUES = 100_000
MOST_DEPTH = 100
MOST_TEXT = 10_000
"""Characters of a text that was put together with ``+``."""
MOST_SENTENCES = 50
WHOLE = 2**63
"""Whole numbers beyond this are not understood: no setting is one."""

Where = tuple[str, ...]


class NotUnderstood:
    """Stands where a value could not be known without running the file."""

    def __repr__(self) -> str:
        return "..."


UNKNOWN = NotUnderstood()


@dataclass
class PythonFile:
    """What a configuration file holds."""

    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[Where, int] = field(default_factory=dict)
    """Path of a value, such as ("optimizer", "lr"), to the line it stands in."""
    not_understood: list[str] = field(default_factory=list)
    """One sentence each."""
    repeated: list[str] = field(default_factory=list)
    """Values that are overwritten before anything used them; one sentence each."""
    used: set[str] = field(default_factory=set)
    """Names that other values are made of."""
    bases: list[str] = field(default_factory=list)

    def line(self, path: Where) -> int | None:
        """The line of a value, or of the nearest one around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)


def shown(value: Any) -> str:
    """A value from a file, safe and short enough for a sentence."""
    if isinstance(value, str) and value.isprintable() and 0 < len(value) <= 60:
        return value
    return reprlib.repr(value)


def dotted(path: Where) -> str:
    """A path as people write it: ``param_scheduler[0].end``."""
    return ".".join(path).replace(".[", "[")


def read_text(path: Path) -> str:
    """The text of a configuration file.

    Raises:
        OcclabError: no file, larger than 1 MB, or not UTF-8.
    """
    try:
        if not path.is_file():
            raise OcclabError(
                f"{shown(str(path))}: expected a Python configuration file, found {'a folder' if path.is_dir() else 'none'}"
            )
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        check_size(len(data), shown(str(path)))
        return data.decode("utf-8-sig")
    except (OSError, ValueError) as error:  # a name with a NUL byte; bytes that are no text
        raise OcclabError(f"{shown(str(path))}: expected a Python configuration file as UTF-8 text ({error})") from error


def plain(values: dict, name: str) -> PythonFile:
    """A configuration that is a dictionary already: the same checks, and no lines.

    Raises:
        OcclabError: beyond the bounds.
    """
    file = PythonFile()
    left = MOST_VALUES

    def copied(value: Any, path: Where, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or depth > MOST_DEPTH:
            raise OcclabError(f"{name}: expected a configuration, got more than {MOST_VALUES} values or {MOST_DEPTH} levels")
        if isinstance(value, dict):
            return {
                str(k): copied(v, (*path, shown(str(k))), depth + 1)
                for k, v in value.items()
                if isinstance(k, str | int | float)
            }
        if isinstance(value, list | tuple):
            items = [copied(v, (*path, f"[{i}]"), depth + 1) for i, v in enumerate(value)]
            return items if isinstance(value, list) else tuple(items)
        if value is None or type(value) in (bool, float, str) or (type(value) is int and abs(value) < WHOLE):
            return value
        if len(file.not_understood) < MOST_SENTENCES:
            file.not_understood.append(f"{dotted(path)}: a value of type {type(value).__name__} is not understood")
        return UNKNOWN

    file.values = copied(values, (), 0)
    bases = file.values.pop("_base_", [])
    file.bases = [base for base in ([bases] if isinstance(bases, str) else bases) if isinstance(base, str)]
    return file


def check_size(size: int, name: str) -> None:
    if size > MOST_BYTES:
        raise OcclabError(f"{name}: expected a configuration of at most {MOST_BYTES // 10**6} MB, got more")
