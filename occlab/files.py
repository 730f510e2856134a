"""Writing files so that a kill at any moment leaves the old one or the new one, never half of one; and paths that are typed."""

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


def typed_path(text: str) -> Path:
    """The path that somebody typed, with ``~`` and ``~somebody`` as the shell has them.

    Raises:
        OcclabError: nobody of that name has a home here.
    """
    try:
        return Path(text.strip()).expanduser()
    except RuntimeError as error:
        raise OcclabError(f"{text.strip()}: there is no home of that name here") from error
