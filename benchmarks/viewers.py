"""Viewers of occupancy volumes, in a real JupyterLab and a real browser: Plotly, k3d and PyVista.

The volumes have 180 x 180 x 32 cells. WebGL runs in software, as where there is no graphics card.
"""

import random
import time
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import Any

from live_page import HERE, LivePage, live_page

VIEWERS = {
    "Mesh3d, whole": ("plotly", "Mesh3d()"),
    "Mesh3d of the workbench": ("plotly", "VolumeScene()"),
    "Scatter3d": ("plotly", "Scatter3d()"),
    "voxels": ("k3d", "K3dVoxels()"),
    "sparse_voxels": ("k3d", "K3dSparse()"),
    "page of vtk.js": ("pyvista", "PyVistaPage()"),
    "picture": ("pyvista", "PyVistaPicture()"),
}
"""Package and class in ``viewer_kinds`` by name. The first is what the others are compared with."""
FIRST = next(iter(VIEWERS))
VOLUMES = [(kind, n) for kind in ("street", "noise") for n in (5_000, 30_000, 100_000)]
SECONDS, LEAST = 170.0, 2
"""After so many seconds no round begins, but for the least number of them."""
SETUP = f"""
import sys, time, warnings
warnings.simplefilter("ignore")
sys.path.append({str(HERE)!r})
from viewer_kinds import *
volumes = {{}}
"""
SCENE = ".jp-OutputArea :is(iframe, canvas, img)"
SHOW = """began = time.perf_counter()
shown = viewer.show(first)
built = time.perf_counter() - began
shown"""

Volume = tuple[str, int]
Measured = list[dict[str, float]]
"""What was measured of one viewer and one volume, round by round."""


def tables(device: str, quick: bool, left_out: list[str]) -> list[dict[str, Any]]:
    """A table a volume. ``device`` is always the processor: there is no GPU under this browser."""
    here = [name for name in VIEWERS if _installed(VIEWERS[name][0], left_out)]
    with live_page(SETUP, 1500, 900) as live:  # room for the two scenes of the workbench
        titles = {volume: _title(live, volume) for volume in (VOLUMES[:1] if quick else VOLUMES)}
        # The first time takes what a second does not: modules, the viewers' scripts.
        live.ask(f"first, second = volumes[{VOLUMES[0]}]")
        tried = {name: found for name in here if (found := _tried(live, name, left_out))}
        measured = {VOLUMES[0]: {name: [found] for name, found in tried.items()}} if quick else rounds(live, list(tried))
    return [
        {"title": titles[volume], "rows": [_row(name, found[name], found[FIRST]) for name in found]}
        for volume, found in measured.items()
    ]


def rounds(live: LivePage, names: list[str]) -> dict[Volume, dict[str, Measured]]:
    """All volumes in turn, and for each all viewers in a new random order."""
    measured = {volume: {name: [] for name in names} for volume in VOLUMES}
    began, order, done = time.monotonic(), random.Random(0), 0
    while done < LEAST or time.monotonic() < began + SECONDS:
        done += 1
        for volume, found in measured.items():
            live.ask(f"first, second = volumes[{volume}]")
            for name in order.sample(list(found), len(found)):
                found[name].append(measure(live, name, 0.5, weigh=done == 1))
    return measured


def measure(live: LivePage, name: str, turning: float, *, weigh: bool = False) -> dict[str, float]:
    """Show ``first``, turn it for so many seconds, change it to ``second``: milliseconds, 10^6 bytes, frames a second.

    Args:
        weigh: also what is the same in each round.
    """
    live.ask(f"viewer = {VIEWERS[name][1]}")
    shown = live.show(SHOW)
    built, turns_in_kernel, updates = live.ask("print(built, hasattr(viewer, 'turn'), hasattr(viewer, 'update'))").split()
    found = {"build": 1e3 * float(built), "first": shown.milliseconds, "sent": shown.megabytes}
    if weigh:
        found |= {"covered": 100 * live.covered(SCENE), "page": float(live.ask("print(len(viewer.page()) / 1e6)"))}
    if turns_in_kernel == "True":
        found["frames"] = 1e3 / live.do("viewer.turn()").milliseconds
    else:
        times = live.turn(SCENE, turning)
        found["frames"] = 1e3 * len(times) / times[-1]
    if updates == "True":
        changed = live.do("viewer.update(second)")
        found |= {"update": changed.milliseconds, "update sent": changed.megabytes}
    live.clear()
    live.ask("viewer.close()")
    return found


def _row(name: str, measured: Measured, first: Measured) -> dict[str, Any]:
    """Medians over the rounds, of what was measured and of its ratios to the first viewer's in the same round."""

    def middle(key: str) -> float | str:
        return median(found[key] for found in measured) if key in measured[0] else ""

    def ratio(key: str) -> float | str:
        return median(a[key] / b[key] for a, b in zip(measured, first, strict=True)) if key in measured[0] else ""

    return {
        "candidate": f"{VIEWERS[name][0]} {version(VIEWERS[name][0])} {name}",
        "build ms": middle("build"),
        "first frame ms": middle("first"),
        "× first": ratio("first"),
        "update ms": middle("update"),
        "× update": ratio("update"),
        "frames/s": middle("frames"),
        "× frames/s": ratio("frames"),
        "sent MB": middle("sent"),
        "update MB": middle("update sent"),
        "page MB": measured[0]["page"],
        "pixels covered": f"{measured[0]['covered']:.0f}%",
        "rounds": len(measured),
    }


def _installed(package: str, left_out: list[str]) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        reason = f"{package} (not installed)"
        left_out.extend([reason] if reason not in left_out else [])
        return False
    return True


def _tried(live: LivePage, name: str, left_out: list[str]) -> dict[str, float]:
    """What a viewer measures; nothing where it shows nothing, for want of a part such as PyVista's trame."""
    try:
        return measure(live, name, 0.3, weigh=True)
    except RuntimeError as error:
        left_out.append(f"{VIEWERS[name][0]} {name} ({str(error).strip().splitlines()[-1]})")
        return {}


def _title(live: LivePage, volume: Volume) -> str:
    live.ask(f"volumes[{volume}] = volumes_of{volume}")
    rectangles = int(live.ask(f"print(viz.exposed_mesh(volumes[{volume}][0]).rectangles)"))
    about = f"{volume[0].capitalize()}, {volume[1]:,} voxels, {rectangles:,} rectangles"
    return f"{about}; 560 x 420 pixels, WebGL in software, {live.browser}"
