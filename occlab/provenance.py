"""Where a result comes from: the machine, the versions, the commit and the command, as far as somebody else needs them."""

import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from . import __version__


def provenance(command: str, commit: str | None = None, *, threads: bool = True) -> dict[str, Any]:
    """The machine and the code, JSON-able.

    Args:
        command: what somebody else types to get the same.
        commit: of the code, where this copy of it is no repository.
        threads: name this process's threads with the processor; not where each run has its own number.
    """
    cuda = torch.cuda.is_available()
    here = f"{torch.get_num_threads()} threads, " if threads else ""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "command": command,
        "commit": commit or _commit(),
        "device": torch.cuda.get_device_name() if cuda else f"CPU, {here}{_processor()}",
        "cuda": torch.version.cuda if cuda else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "occlab": __version__,
    }


def _processor() -> str:
    """The processor's model, where the system tells it."""
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit(package: Path = Path(__file__).parent) -> str:
    """The commit of occlab's checkout, with "+" where the tree differs from it; "unknown" where it was installed as a copy,
    also inside somebody else's repository."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(package), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
