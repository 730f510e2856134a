"""One exception for everything a person can put right: a bad file, a bad setting, a missing package.

Its message is one sentence that names the file or setting and says what was expected. The command line prints
that sentence and exits with code 2; a notebook shows it as the last line of the traceback.
"""

import importlib
import os
from types import ModuleType


class OcclabError(Exception):
    """Bad input: the message names it and says what was expected."""


def require(module: str, *, package: str | None = None, extra: str = "course") -> ModuleType:
    """Import an optional dependency where it is used.

    Raises:
        OcclabError: the package is absent or broken; the sentence holds the command that installs it.
    """
    if module == "open3d":  # its viewer for notebooks starts a server and prints three lines; nothing here uses it
        os.environ.setdefault("OPEN3D_DISABLE_WEB_VISUALIZER", "true")
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = package or module.partition(".")[0]
        raise OcclabError(f"{name} could not be imported ({error}); install it with: pip install 'occlab[{extra}]'") from error


def one_line(text: object, longest: int = 2000) -> str:
    """Text as one line that a terminal can be shown: without control characters, which a file's name or contents may hold."""
    plain = "".join(c if c.isprintable() else " " if c.isspace() else "" for c in str(text)[: 2 * longest])
    plain = " ".join(plain.split())
    return plain if len(plain) <= longest else plain[: longest - 1] + "…"
