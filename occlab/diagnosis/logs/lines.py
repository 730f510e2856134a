"""Reading files of any size and any content, a bounded piece at a time."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import OcclabError

BLOCK = 1 << 20
LONGEST_LINE = 1_000_000
LARGEST_STEP = 1 << 40
"""Steps, iterations and epochs from here on are damage, not training."""


def clean(text: object, longest: int = 200) -> str:
    """Text from a file as it may be shown: one line, no control characters, not too long."""
    shown = "".join(c for c in str(text)[: 4 * longest] if c.isprintable())
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def number(value: Any) -> float | None:
    """A number of JSON or YAML as a float; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:  # an integer of more than 308 digits
        return None


def whole(value: Any) -> int | None:
    """A step, iteration or epoch; None where it cannot be one."""
    value = number(value)
    return int(value) if value is not None and 0 <= value < LARGEST_STEP and value == int(value) else None


def parse_object(line: str) -> dict[str, Any] | None:
    """One line as a JSON object; None where it is none. NaN and Infinity are read, as Python writes them."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):  # ValueError: also an integer of too many digits
        return None
    return row if isinstance(row, dict) else None


class Lines:
    """The lines of a text file, without their ends; lines of over 1 MB are left out and counted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.left_out = 0

    def __iter__(self) -> Iterator[str]:
        rest, inside = "", False  # inside: of a line that is left out
        try:
            with self.path.open(encoding=encoding(self.path), errors="replace") as file:
                while block := file.read(BLOCK):
                    lines = (rest + block).split("\n")
                    rest = lines.pop()
                    if inside and lines:
                        inside = False
                        del lines[0]
                    for line in lines:
                        if len(line) <= LONGEST_LINE:
                            yield line
                        else:
                            self.left_out += 1
                    if inside or len(rest) > LONGEST_LINE:
                        self.left_out += not inside
                        rest, inside = "", True
        except OSError as error:
            raise OcclabError(f"{clean(self.path)}: cannot be read ({error.strerror or error})") from error
        if rest:
            yield rest


def head(path: Path, size: int = 1 << 16) -> bytes:
    """The first bytes of a file.

    Raises:
        OcclabError: no such file, no plain file, empty, or not readable.
    """
    try:
        if not path.exists():
            raise OcclabError(f"{clean(path)}: no such file or folder")
        if not path.is_file():  # a pipe or a device never ends
            raise OcclabError(f"{clean(path)}: expected a file or a folder, got something else")
        with path.open("rb") as file:
            start = file.read(size)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise OcclabError(f"{clean(path)}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if not start:
        raise OcclabError(f"{clean(path)}: expected a training log, got an empty file")
    return start


def text_of(path: Path, longest: int) -> str:
    """The beginning of a small text file; "" where there is none."""
    try:
        if not path.is_file():
            return ""
        with path.open(encoding=encoding(path), errors="replace") as file:
            return file.read(longest)
    except OSError:
        return ""


def encoding(path: Path) -> str:
    """UTF-8, or what the byte order mark says: PowerShell redirects output as UTF-16."""
    with path.open("rb") as file:
        mark = file.read(2)
    return "utf-16" if mark in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
