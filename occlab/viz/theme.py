"""One look for all figures, and what the 3-D views share.

Colours are Okabe and Ito's (https://jfly.uni-koeln.de/color/), told apart with any kind of colour vision; heights are
coloured by viridis (Smith and van der Walt, SciPy 2015), whose steps are even to the eye. The paper is opaque white, so
that a figure reads the same in a light notebook, a dark one and on a page of its own.
"""

from functools import cache
from typing import Any

import numpy as np

from ..errors import OcclabError, require
from ..grid import VoxelGrid

BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"
INK, QUIET, FAINT = "#1F2933", "#5B6673", "#E3E7EB"
CYCLE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, INK)
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x")

OUTCOMES = {1: ("hit", "#0072B2"), 2: ("miss", "#E69F00"), 3: ("false alarm", "#A6A6A6")}
"""What can happen to a voxel, by its number in an outcome volume (0: rightly empty). Of the pairings with the palette's
blue and orange, grey stays the farthest from both for protan, deutan and tritan eyes, in light and in shade."""
HEIGHT_SCALE = "Viridis"
HEIGHT_2D, HEIGHT_3D = 460, 620
"""Figure heights, pixels. Widths follow the page."""
MARGIN = {"l": 64, "r": 24, "t": 76, "b": 56}

CONFIG: dict[str, Any] = {"displaylogo": False, "responsive": True, "scrollZoom": False}
"""For ``figure.show(config=CONFIG)``: the mouse wheel scrolls the notebook, it does not zoom the scene under it."""

ROAD = -1.8
"""Height of the road under a LiDAR on a car's roof, metres (1.73 in KITTI, 1.84 in nuScenes)."""
CENTIMETRES = 100
"""3-D traces hold whole centimetres as int16, half the weight of float32; the ticks read in metres."""


@cache
def template() -> Any:
    """The ``plotly.graph_objects.layout.Template`` of every figure."""
    go = require("plotly.graph_objects")
    axis = {
        "gridcolor": FAINT,
        "linecolor": QUIET,
        "zeroline": False,
        "showline": True,
        "ticks": "outside",
        "tickcolor": QUIET,
        "automargin": True,
        "title": {"standoff": 8, "font": {"size": 14}},
    }
    axis_3d = {
        "backgroundcolor": "#FFFFFF",
        "showgrid": False,  # from this near, Plotly draws the floor's grid over the voxels
        "linecolor": FAINT,
        "showspikes": False,
        "zeroline": False,
        "tickfont": {"size": 12},
    }
    layout = go.Layout(
        font={"family": "Inter, Helvetica, Arial, DejaVu Sans, sans-serif", "size": 14, "color": INK},
        title={
            "font": {"size": 18},
            "subtitle": {"font": {"size": 13, "color": QUIET}},
            "x": 0,
            "xref": "paper",
            "xanchor": "left",
            "yref": "container",
            "y": 1,
            "yanchor": "top",
            "pad": {"t": 16},
        },
        paper_bgcolor="#FFFFFF",
        plot_bgcolor="#FFFFFF",
        colorway=CYCLE,
        height=HEIGHT_2D,
        margin=MARGIN,
        xaxis=axis,
        yaxis=axis,
        scene={"xaxis": axis_3d, "yaxis": axis_3d, "zaxis": axis_3d},
        # Below everything: there a legend of any length makes its own room, above it would cover the title.
        legend={"orientation": "h", "x": 0, "y": 0.01, "yref": "container", "yanchor": "bottom", "font": {"size": 13}},
        hoverlabel={"font": {"size": 13}},
    )
    return go.layout.Template(layout=layout)


def figure(traces: list[Any], *, title: str | None, subtitle: str | None = None, **layout: Any) -> Any:
    """A ``go.Figure`` in the theme."""
    go = require("plotly.graph_objects")
    heading = {"text": title or ""} | ({"subtitle": {"text": subtitle}} if subtitle else {"pad": {"t": 30}})
    return go.Figure(traces, go.Layout(template=template(), title=heading, **layout))


def show(figure: Any) -> None:
    """Show a figure with :data:`CONFIG`."""
    figure.show(config=CONFIG)


def as_array(values: Any) -> np.ndarray:
    """A NumPy array of an array, a tensor on any device, or a list."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() else values  # NumPy has no bfloat16
        return values.numpy()
    return np.asarray(values)


def as_volume(volume: Any, grid: VoxelGrid, what: str = "volume") -> np.ndarray:
    """A (Z, Y, X) array over ``grid``, from an array or tensor (Z, Y, X) or (1, Z, Y, X); float32 if it was floating.

    Raises:
        OcclabError: another shape, or floating values that are not probabilities: logits, NaN.
    """
    array = as_array(volume)
    array = array[0] if array.ndim == 4 and len(array) == 1 else array
    if array.shape != grid.shape:
        raise OcclabError(f"{what} expects shape (Z, Y, X) = {grid.shape} of its grid, got {tuple(array.shape)}")
    if array.dtype.kind == "f":
        array = array.astype(np.float32, copy=False)
        low, high = float(array.min()), float(array.max())
        if not (low >= 0 and high <= 1):
            raise OcclabError(
                f"{what} expects booleans or probabilities in [0, 1], got values from {low:g} to {high:g}; "
                "logits go through a sigmoid first"
            )
    elif array.dtype.kind not in "bui":
        raise OcclabError(f"{what} expects booleans or probabilities, got {array.dtype}")
    return array


def occupied(volume: Any, grid: VoxelGrid, threshold: float = 0.5, what: str = "volume") -> np.ndarray:
    """(Z, Y, X) bool: True, a whole number above 0, or a probability above ``threshold``."""
    array = as_volume(volume, grid, what)
    return array > (threshold if array.dtype.kind == "f" else 0)


def outcomes(predicted: Any, target: Any, grid: VoxelGrid, mask: Any = None, threshold: float = 0.5) -> np.ndarray:
    """(Z, Y, X) uint8: 1 hit, 2 miss, 3 false alarm, 0 rightly empty or outside ``mask``.

    The target is occupied wherever it is above 0, also where it is a soft one.
    """
    said = occupied(predicted, grid, threshold, "predicted")
    true = occupied(target, grid, 0.0, "target")
    outcome = np.where(true, np.where(said, 1, 2), np.where(said, 3, 0)).astype(np.uint8)
    return outcome if mask is None else np.where(occupied(mask, grid, 0.0, "mask"), outcome, 0).astype(np.uint8)


def score(outcome: np.ndarray) -> tuple[int, int, int, float]:
    """Hits, misses, false alarms, and their intersection over union (0 where all three are)."""
    hits, misses, alarms = (int((outcome == k).sum()) for k in OUTCOMES)
    union = hits + misses + alarms
    return hits, misses, alarms, hits / union if union else 0.0


def nice_ticks(low: float, high: float, most: int = 8) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten between ``low`` and ``high``, at most ``most`` of them."""
    step = 10.0 ** np.floor(np.log10(max(high - low, 1e-9) / most))
    step *= next(k for k in (1, 2, 5, 10, 20) if (high - low) / (k * step) <= most)
    return [float(t) for t in np.arange(np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9) + 1) * step]


def metre_ticks(low: float, high: float, most: int = 8) -> dict[str, Any]:
    """Ticks that read in metres on an axis or colour bar that holds centimetres."""
    ticks = nice_ticks(low, high, most)
    return {"tickvals": [t * CENTIMETRES for t in ticks], "ticktext": [f"{t:g}".replace("-", "\N{MINUS SIGN}") for t in ticks]}


def scene(box: tuple[float, ...]) -> dict[str, Any]:
    """A 3-D scene over ``box`` = (x, y, z low, x, y, z high) in metres, for traces in centimetres.

    It opens from behind and above the car. Ranges are fixed, and the camera stays where it was turned to when the
    data of a live figure change.
    """
    names = ("x forward (m)", "y left (m)", "z (m)")
    axes = {}
    for axis, name, low, high, most in zip("xyz", names, box[:3], box[3:], (6, 6, 3), strict=True):
        axes[f"{axis}axis"] = {
            "title": {"text": name, "font": {"size": 13}},
            # 5 cm to spare: faces that lie on the end of an axis are clipped away in spots.
            "range": [low * CENTIMETRES - 5, high * CENTIMETRES + 5],
            **metre_ticks(low, high, most),
        }
    # Equal scales on all axes. The mode "data" looks at the traces, not at the ranges, and squeezes a street that is empty
    # to the left and right. The longer side of the floor is 2, the unit of the camera's position.
    extent = [high - low for low, high in zip(box[:3], box[3:], strict=True)]
    unit = max(extent[:2]) / 2
    return {
        **axes,
        "aspectmode": "manual",
        "aspectratio": {axis: e / unit for axis, e in zip("xyz", extent, strict=True)},
        "uirevision": "keep",
        "camera": {"eye": {"x": -0.95, "y": -0.22, "z": 0.45}, "center": {"x": 0.0, "y": 0.0, "z": -0.14}},
    }


def rings(box: tuple[float, ...]) -> list[Any]:
    """Circles on the road around the car: the measure of a view whose axes are out of sight."""
    go = require("plotly.graph_objects")
    x0, y0, z0, x1, y1, z1 = box
    reach = max(-x0, -y0, x1, y1)
    every = 20 if reach >= 30 else 5
    radii = range(every, int(reach) + 1, every)
    if not radii or not (z0 <= ROAD <= z1):
        return []
    turn = np.linspace(0, 2 * np.pi, 121)
    x, y = (np.concatenate([np.append(r * f(turn), np.nan) for r in radii]) for f in (np.cos, np.sin))
    outside = (x < x0) | (x > x1) | (y < y0) | (y > y1)
    x[outside] = y[outside] = np.nan
    z = np.full_like(x, ROAD + 0.2)
    x, y, z = ((v * CENTIMETRES).astype(np.float32) for v in (x, y, z))
    return [
        go.Scatter3d(
            x=x, y=y, z=z, mode="lines", line={"color": INK, "width": 2}, name=f"rings every {every} m", hoverinfo="skip"
        )
    ]


def colour_bar(name: str, **more: Any) -> dict[str, Any]:
    return {"title": {"text": name, "font": {"size": 13}}, "thickness": 14, "outlinewidth": 0, **more}


def height_bar(low: float, high: float) -> dict[str, Any]:
    """Colour bar of heights held in centimetres."""
    return colour_bar("height (m)", len=0.7, **metre_ticks(low, high))


def to_centimetres(metres: np.ndarray) -> np.ndarray:
    """Whole centimetres as int16, or float32 where they reach farther than int16 does (327 m)."""
    scaled = np.round(np.asarray(metres, dtype=np.float64) * CENTIMETRES)
    return scaled.astype(np.int16 if not scaled.size or np.abs(scaled).max() < 2**15 else np.float32)


def say(figure: Any, text: str) -> Any:
    """Write ``text`` in the middle of a figure that would be empty without it."""
    font = {"size": 18, "color": QUIET}
    figure.add_annotation(text=text, showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper", font=font, bgcolor="#FFFFFF")
    return figure
