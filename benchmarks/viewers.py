"""Viewers of occupancy volumes in a real JupyterLab and a real browser: Plotly's Mesh3d as occlab uses it, Scatter3d, k3d, PyVista.

The volumes have 180 x 180 x 32 cells, the canvases 800 x 560 pixels. WebGL runs in software, as where there is no graphics card.
"""

import random
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import Any

from live_page import HERE, LivePage, live_page

VIEWERS = {
    "Mesh3d, whole": ("plotly", "Mesh3d()"),
    "Mesh3d, cut as by occlab": ("plotly", "Mesh3d(voxels.MAX_RECTANGLES)"),
    "Scatter3d": ("plotly", "Scatter3d()"),
    "voxels": ("k3d", "K3dVoxels()"),
    "sparse_voxels": ("k3d", "K3dSparse()"),
    "page of vtk.js": ("pyvista", "PyVistaPage()"),
    "picture": ("pyvista", "PyVistaPicture()"),
}
"""The package and the class in ``viewer_kinds``, by name. The others are compared with the first."""
FIRST, CUT = list(VIEWERS)[:2]
VOLUMES = [(kind, n) for kind in ("street", "noise") for n in (5_000, 30_000, 100_000)]
SETUP = f"""
import sys, time, warnings
warnings.simplefilter("ignore")
sys.path.append({str(HERE)!r})
from viewer_kinds import *
"""
SHOW = """began = time.perf_counter()
shown = viewer.show(first)
built = time.perf_counter() - began
shown"""


def tables(device: str, quick: bool, left_out: list[str]) -> list[dict[str, Any]]:
    """One table a volume. ``device`` is always the processor: there is no GPU under this browser."""
    here = {name: viewer for name, viewer in VIEWERS.items() if _installed(viewer[0], left_out)}
    with live_page(SETUP) as live:
        content = []
        for kind, n in VOLUMES[:1] if quick else VOLUMES:
            faces = int(live.ask(f"first, second = volumes({kind!r}, {n}); print(voxels.exposed_mesh(first).rectangles)"))
            most = int(live.ask("print(voxels.MAX_RECTANGLES)"))
            names = [name for name in here if name != CUT or faces > most]
            if not content:
                names = [name for name in names if _works(live, here[name][1], name, left_out)]  # and loads their scripts
                here = {name: here[name] for name in names} | {CUT: VIEWERS[CUT]}
            measured = rounds(live, {name: here[name][1] for name in names}, 1 if quick else 3, 0.5 if quick else 1.5)
            title = f"{kind.capitalize()}, {n:,} voxels, {faces:,} rectangles; {live.browser}, software WebGL, 800 x 560 pixels"
            content.append({"title": title, "rows": [_row(name, measured) for name in names]})
    return content


def rounds(live: LivePage, viewers: dict[str, str], count: int, seconds: float) -> dict[str, list[dict[str, float]]]:
    """All viewers in turn, in a new random order each round; what was measured, by viewer."""
    order, measured = random.Random(0), {name: [] for name in viewers}
    for _ in range(count):
        turn = list(viewers)
        order.shuffle(turn)
        for name in turn:
            live.ask(f"viewer = {viewers[name]}")
            measured[name].append(measure(live, seconds))
            if len(measured[name]) == 1:  # the same in each round
                measured[name][0] |= {"covered": live.covered(), "page": float(live.ask("print(len(viewer.page()) / 1e6)"))}
            live.ask("viewer.close()")
    return measured


def measure(live: LivePage, seconds: float) -> dict[str, float]:
    """Show ``first``, turn it for so many seconds, change it to ``second``: milliseconds, 10^6 bytes, frames a second."""
    shown = live.show(SHOW)
    found = {"build": 1e3 * float(live.ask("print(built)")), "first": shown.milliseconds, "sent": shown.megabytes}
    if live.ask("print(hasattr(viewer, 'turn'))") == "True":  # drawn in the kernel
        found["frames"] = 1e3 / live.do("viewer.turn()").milliseconds
    else:
        found["frames"] = live.turn(seconds)
    if live.ask("print(hasattr(viewer, 'update'))") == "True":
        changed = live.do("viewer.update(second)")
        found |= {"update": changed.milliseconds, "update sent": changed.megabytes}
    return found


def _row(name: str, measured: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Medians, and ratios to the first viewer's as medians over the rounds."""

    def middle(key: str) -> float | str:
        found = [one[key] for one in measured[name] if key in one]
        return median(found) if found else ""

    def ratio(key: str) -> float | str:
        pairs = zip(measured[name], measured[FIRST], strict=True)
        return median(found[key] / first[key] for found, first in pairs) if key in measured[name][0] else ""

    package = VIEWERS[name][0]
    return {
        "candidate": f"{package} {version(package)} {name}",
        "build ms": middle("build"),
        "first frame ms": middle("first"),
        "× first": ratio("first"),
        "update ms": middle("update"),
        "× update": ratio("update"),
        "frames/s": middle("frames"),
        "× frames/s": ratio("frames"),
        "sent MB": middle("sent"),
        "update MB": middle("update sent"),
        "page MB": middle("page"),
        "covered": f"{middle('covered'):.0%}",
    }


def _installed(package: str, left_out: list[str]) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        reason = f"{package} (not installed)"
        left_out.extend([reason] if reason not in left_out else [])
        return False
    return True


def _works(live: LivePage, viewer: str, name: str, left_out: list[str]) -> bool:
    try:
        live.ask(f"viewer = {viewer}")
        measure(live, 0.1)
        live.ask("viewer.close()")
    except RuntimeError as error:
        left_out.append(f"{name} ({str(error).strip().splitlines()[-1]})")
        return False
    return True
