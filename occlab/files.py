"""Writing files so that a kill at any moment leaves the old one or the new one, never half of one; stamps; typed paths."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from .errors import OcclabError


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a file beside ``path``, flush it to the disk, and move it there in one step.

    Raises:
        OcclabError: the disk is full, or the folder cannot be written to.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")  # in the same folder: a rename does not cross disks
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise OcclabError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def stamp(path: Path) -> tuple[int, int] | None:
    """A file as it is on the disk, by time (ns) and size (bytes), to be told from what it was; None where there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):  # ValueError: a zero byte in the name
        return None
    return found.st_mtime_ns, found.st_size


def typed_path(text: str) -> Path:
    """The path that somebody typed, with ``~`` and ``~somebody`` as the shell has them.

    Raises:
        OcclabError: nobody of that name has a home here.
    """
    try:
        return Path(text.strip()).expanduser()
    except RuntimeError as error:
        raise OcclabError(f"{text.strip()}: there is no home of that name here") from error
