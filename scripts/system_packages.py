"""Sees to the system libraries that Open3D loads, and to a browser for the tests.

    python scripts/system_packages.py course     the libraries of apt.txt; exit code 1 if one is still missing
    python scripts/system_packages.py test       a Chromium and a font too; the browser tests skip without them

Installs what is missing where it may (root on Debian or Ubuntu); elsewhere prints the one line to type. Needs nothing
but Python's own library: it runs before anything is installed.
"""

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

LIBRARIES = {"libusb-1.0.so.0": "libusb-1.0-0", "libGL.so.1": "libgl1", "libEGL.so.1": "libegl1", "libX11.so.6": "libx11-6"}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FONT = Path("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf")


def loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def missing_libraries() -> list[str]:
    """Debian's names of the packages whose library does not load."""
    return [package for library, package in LIBRARIES.items() if not loads(library)]


def missing_browser() -> list[str]:
    browser = [] if any(map(shutil.which, BROWSERS)) else ["chromium"]
    return browser + ([] if FONT.exists() else ["fonts-dejavu-core"])


def apt_install(packages: list[str]) -> None:
    """Best effort: what counts is what loads afterwards."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    print("installing with apt-get:", *packages, flush=True)
    subprocess.run(["apt-get", "update", "-qq"], env=environment, check=False)
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "-o", "Dpkg::Use-Pty=0", *packages]
    done = subprocess.run(command, env=environment, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        print(done.stdout)


def by_hand(packages: list[str]) -> str:
    return f"sudo apt-get update && sudo apt-get install -y --no-install-recommends {' '.join(packages)}"


def main(purpose: str) -> int:
    if sys.platform != "linux":  # the wheels for macOS and Windows bring their own
        return 0
    wanted = missing_libraries() + (missing_browser() if purpose == "test" else [])
    if wanted and os.geteuid() == 0 and shutil.which("apt-get"):
        apt_install(wanted)
    if purpose == "test" and (absent := missing_browser()):
        print(f"tests that need {' and '.join(absent)} will be skipped; to run them too, type:\n    {by_hand(absent)}")
    if absent := missing_libraries():
        print(
            f"Open3D cannot be loaded without {', '.join(absent)}; type this line, then run make again:\n    {by_hand(absent)}"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
