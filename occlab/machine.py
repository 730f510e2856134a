"""What this machine offers the course, in words."""

import os
import shutil

import torch

from .errors import OcclabError, require
from .settings import profile
from .training import fast_precision

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def describe_machine() -> dict[str, str]:
    """What runs the course here: device, profile, precision, and which optional parts are there.

    Raises:
        OcclabError: OCCLAB_PROFILE names no profile.
    """
    size = profile()
    cuda = torch.cuda.is_available()
    bf16 = fast_precision() == "bf16-mixed"
    nz, ny, nx = size.grid.shape
    browser = os.environ.get("BROWSER_PATH") or next(filter(shutil.which, _BROWSERS), None)
    return {
        "device": torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads",
        "profile": f"{size.name}: grid {nz} x {ny} x {nx}, {size.width:g} of the full width, {size.steps} steps a run",
        "precision": "bf16, in hardware" if bf16 else "float32; no bf16 in this hardware",
        "Open3D": _installed("open3d", "streets can be simulated", "only the sample frames that ship"),
        "Chromium": "found: pictures can be drawn" if browser else "not found: needed only to write pictures into notebooks",
    }


def _installed(module: str, there: str, absent: str) -> str:
    try:
        require(module)
    except OcclabError as error:
        return f"{absent} ({error})"
    return f"found: {there}"
