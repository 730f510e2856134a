"""Live curves of one training: a single Plotly figure of four panels, changed in place."""

import html
import math
import textwrap
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import require
from ..training import Step
from ..viz import CONFIG, theme
from ..viz.curves import stagger
from ..viz.dark import paint, shade

MOST = 600
"""Points that a curve is drawn with; a screen is hardly wider."""
PATIENCE = 1.0
"""Seconds after which a browser that has not drawn the last change is no longer waited for: it may have been closed."""
USUAL_RATIO = 1e-3
"""Update-to-weight ratio that is about usual for a training that goes well."""

HEIGHT = 384
"""Of the figure, pixels."""
_MARGIN = {"l": 46, "r": 62, "t": 26, "b": 42}
_PLOT = HEIGHT - _MARGIN["t"] - _MARGIN["b"]
# The loss takes the left, over its whole height, so that the floors have room for their names beside it.
_LEFT, _RIGHT, _LETTERS = (0.0, 0.42), (0.68, 1.0), 18
_ROWS = ((0.72, 1.0), (0.36, 0.64), (0.0, 0.28))
_PANELS = {
    "loss": ("", _LEFT, (0.0, 1.0)),
    **{n: (str(i + 2), _RIGHT, _ROWS[i]) for i, n in enumerate(("norm", "ratio", "iou"))},
}
_CURVES = {"loss": "loss", "norm": "norm", "clipped": "norm", "ratio": "ratio", "iou": "iou"}
"""What is drawn, and in which panel."""
_LOOK = {"color": theme.BLUE, "width": 1.8}
_BESIDE = {"color": theme.QUIET, "width": 1.5, "dash": "dash"}
_CLIPPED = {"color": theme.VERMILLION, "width": 1.5, "dash": "dot"}


class LiveCurves:
    """Loss over its floors, gradient norm before and after clipping, update-to-weight ratio and IoU, by step.

    Make it where it can be seen at once, else it takes the wrong width. Every method sends the browser one message, of what
    has changed only; a message is as long for a long run as for a short one. While the browser still draws the last one, new
    steps wait, so that a slow one falls behind in pictures and not in time.

    Args:
        dark: whether the page is.
    """

    def __init__(self, dark: bool = False) -> None:
        go = require("plotly.graph_objects")
        blank = _blank()
        self._dark, self._total, self._clip = dark, 0, None
        self._floors: dict[str, float] = {}
        self._own, self._reference, self._reference_name = measured(()), measured(()), ""
        self._late: Sequence[Step] | None = None
        self._sent: float | None = None
        self._loss_range = (math.nan, math.nan)
        self._drawn: dict[str, Any] = {}
        """Ranges and titles that were set last: what the hand has zoomed stays, as long as they do not change."""
        paint(blank, dark)
        self.figure = go.FigureWidget(blank)
        self.figure._config = CONFIG
        # Not on_edits_completed: it waits for an answer about the layout too, which plotly 7's script gives to another name.
        self.figure.observe(self._answered, names="_js2py_traceDeltas")
        self._traces = {trace.name: trace for trace in self.figure.data}

    def of(self, total: int, clip: float | None, floors: Mapping[str, float] | None = None) -> None:
        """Say which run the curves are of.

        Args:
            total: the steps that it is to make.
            clip: the norm that gradients are clipped to; None: they are not.
            floors: values of its loss for predictions that need no learning, by name.
        """
        self._total, self._clip, self._floors = total, clip, dict(floors or {})
        self._redraw()

    def beside(self, name: str, steps: Sequence[Step]) -> None:
        """Draw another run's curves under these, grey and dashed; without a step: none."""
        self._reference_name, self._reference = name, measured(steps)
        self._redraw()

    def draw(self, steps: Sequence[Step]) -> None:
        """Draw the run as far as it has come: all its steps so far."""
        if self._sent is not None and time.monotonic() - self._sent < PATIENCE:
            self._late = steps
            return
        self._late, self._own, self._sent = None, measured(steps), time.monotonic()
        self._redraw()

    def _answered(self, change: Mapping[str, Any]) -> None:
        """The browser has drawn a change of the curves, and says what they look like now."""
        if change["new"]:
            self._sent = None
            if self._late is not None:
                self.draw(self._late)

    def paint(self, dark: bool) -> None:
        """Follow the page's theme."""
        self._dark = dark
        paint(self.figure, dark)

    def _redraw(self) -> None:
        with self.figure.batch_update():
            for name in _CURVES:
                self._draw_curve(self._traces[name], self._own, name)
                if name != "clipped":
                    self._draw_curve(self._traces[f"reference {name}"], self._reference, name)
            self._scale()
            titles = self._titles()
            if self._changed("marks", (self._floors, self._clip, self._loss_range)):
                labels, self.figure.layout.shapes = self._marks()
                self.figure.layout.annotations = [*titles, *labels]
            else:
                for i, title in enumerate(titles):
                    self.figure.layout.annotations[i].text = title["text"]

    def _draw_curve(self, trace: Any, of_run: dict[str, np.ndarray], name: str) -> None:
        shown = thin(of_run[name])
        trace.x, trace.y = of_run["step"][shown].astype(np.int32), of_run[name][shown].astype(np.float32)
        trace.mode = "lines+markers" if len(shown) == 1 else "lines"

    def _changed(self, what: str, value: Any) -> bool:
        changed = what not in self._drawn or self._drawn[what] != value
        self._drawn[what] = value
        return changed

    # --- axes -------------------------------------------------------------------------------------------------------

    def _scale(self) -> None:
        """Ranges in round steps, so that they stay for a while."""
        made = len(self._own["step"])
        reach = 25
        while reach < made:
            reach *= 2
        reach = min(reach, max(self._total, made)) or 25
        self._range("xaxis", (0, reach))
        own = self._own
        other = {name: values[self._reference["step"] <= reach] for name, values in self._reference.items()}  # what is shown
        losses = np.concatenate([own["loss"], other["loss"]])
        self._loss_range = _loss_range(losses, [own["loss"][:1], other["loss"][:1]], list(self._floors.values()))
        self._range("yaxis", self._loss_range)
        self._range("yaxis2", _decades(own["norm"], own["clipped"], other["norm"], [self._clip or np.nan]))
        self._range("yaxis3", _decades(own["ratio"], other["ratio"], [USUAL_RATIO]))
        best = max([0.0, *own["iou"], *other["iou"]])
        self._range("yaxis4", (0, next(top for top in (0.02, 0.05, 0.1, 0.2, 0.5, 1.02) if best <= top)))
        thinned = max(made, len(self._reference["step"])) > MOST
        text = "step (drawn thinner, extremes kept; the run's folder has all)" if thinned else "step"
        if self._changed("step", text):
            self.figure.layout.xaxis.title.text = text

    def _range(self, axis: str, ends: tuple[float, float]) -> None:
        if self._changed(axis, ends):
            self.figure.layout[axis].range = ends
            if self.figure.layout[axis].type == "log":
                self.figure.layout[axis].dtick = 1 if ends[1] - ends[0] <= 4 else 2

    # --- words ------------------------------------------------------------------------------------------------------

    def _titles(self) -> list[dict[str, Any]]:
        """A line over each panel, with the present value."""
        now = {name: values[-1] if len(values) else None for name, values in self._own.items()}
        mark = '<span style="color:{color}"><b>{sign}</b></span> '
        before, after = mark.format(**_LOOK, sign="━"), mark.format(**_CLIPPED, sign="┉")
        texts = {"loss": "<b>loss</b>", "norm": f"<b>gradient norm</b> {before}", "ratio": "<b>update / weight</b>"}
        texts["iou"] = "<b>IoU of the batch</b>"
        if now["loss"] is not None:
            texts["loss"] += f" {now['loss']:.4f}"
            texts["norm"] += f"{now['norm']:.3g}" + (f" {after}clipped {now['clipped']:.3g}" if self._clip else "")
            texts["ratio"] += f" {now['ratio']:.2g}"
            texts["iou"] += f" {now['iou']:.3f}"
        if len(self._reference["step"]):
            texts["loss"] += f"  ┅ {html.escape(textwrap.shorten(self._reference_name, 36, placeholder='…'), quote=False)}"
        look = {"showarrow": False, "x": 0, "y": 1, "xanchor": "left", "yanchor": "bottom", "font": {"size": 12.5}, "yshift": 1}
        return [
            {"text": texts[panel], "xref": f"x{number} domain", "yref": f"y{number} domain", **look}
            for panel, (number, *_) in _PANELS.items()
        ]

    def _marks(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Labels and lines of the floors, of the clipping norm and of the usual ratio."""
        ink, quiet = (shade(colour, self._dark) for colour in (theme.INK, theme.QUIET))
        beside = {"x": 1, "xanchor": "left", "align": "left", "font": {"size": 11.5}, "standoff": 0}
        leader = {"ax": 14, "arrowhead": 0, "arrowwidth": 1, "arrowcolor": quiet}
        labels, rules = [], []

        def rule(number: str, value: float, colour: str, width: float) -> None:
            along = {"xref": f"x{number} domain", "yref": f"y{number}", "layer": "below", "x0": 0, "x1": 1}
            rules.append({"type": "line", "y0": value, "y1": value, "line": {"color": colour, "width": width}, **along})

        names = [("<br>".join(_wrapped(name, value)), value) for name, value in self._floors.items()]
        for text, value, up in stagger(names, *self._loss_range, pixels=_PLOT):
            labels.append({"text": text, "xref": "x domain", "y": value, "yref": "y", "ay": -up, **beside, **leader})
        for value in self._floors.values():
            rule("", value, ink, 1)
        for number, value, text in (("2", self._clip, f"clip {self._clip}"), ("3", USUAL_RATIO, "about<br>usual")):
            if value is not None:
                rule(number, value, ink if number == "2" else quiet, 1)
                place = {"xref": f"x{number} domain", "y": math.log10(value), "yref": f"y{number}", "showarrow": False}
                labels.append({"text": text, "xshift": 4, **place, **beside})
        return labels, rules


def measured(steps: Sequence[Step]) -> dict[str, np.ndarray]:
    """Columns (S,) float64 of the steps: ``step``, ``loss``, ``norm``, ``clipped``, ``ratio`` and ``iou``. A norm or ratio of
    0 is NaN: it has no place on a logarithmic axis."""
    rows = [(s.step, s.loss, s.grad_norm, s.grad_norm * s.clip_coefficient, s.update_ratio, s.iou) for s in steps]
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    table[:, 2:5][table[:, 2:5] <= 0] = np.nan
    return dict(zip(("step", *_CURVES), table.T, strict=True))


def thin(values: np.ndarray, most: int = MOST) -> np.ndarray:
    """Which of the values to draw, at most ``most`` of them: all, or the first, the last, and the lowest and highest of every
    4, 8, 16 ... in a row. A curve that grows keeps the points it was drawn with, but for its end, until it doubles.

    Shape:
        values: (S,), NaN where there is none.
        returns: (at most ``most``,) indices, rising.
    """
    n = len(values)
    if n <= most:
        return np.arange(n)
    width = 4
    while -(-n // width) > (most - 2) // 2:
        width *= 2
    starts = np.arange(0, n, width)
    table = np.full((len(starts), width), np.nan)
    table.flat[:n] = values
    lowest = starts + np.where(np.isnan(table), np.inf, table).argmin(axis=1)
    highest = starts + np.where(np.isnan(table), -np.inf, table).argmax(axis=1)
    return np.unique(np.concatenate([[0], lowest, highest, [n - 1]]))


def _blank() -> Any:
    """The figure without a step."""
    traces = []
    go = require("plotly.graph_objects")
    words = {"loss": "loss", "norm": "gradient norm", "clipped": "after clipping", "ratio": "update / weight", "iou": "IoU"}
    for kind, look in (("reference ", _BESIDE), ("", _LOOK)):
        for name, panel in _CURVES.items():
            if kind and name == "clipped":
                continue
            number = _PANELS[panel][0]
            hover = f"{kind}{words[name]}, step %{{x}}: %{{y:.4g}}<extra></extra>"
            line = _CLIPPED if name == "clipped" else look
            axes = {"xaxis": f"x{number}", "yaxis": f"y{number}"}
            traces.append(go.Scatter(x=[], y=[], name=f"{kind}{name}", line=line, hovertemplate=hover, mode="lines", **axes))
    figure = theme.figure(traces, title=None, height=HEIGHT, margin=_MARGIN, showlegend=False, font={"size": 12})
    for name, (number, across, down) in _PANELS.items():
        bottom = down[0] == 0
        title = {"text": "step", "font": {"size": 12}, "standoff": 4} if bottom else {}
        x = {"domain": across, "anchor": f"y{number}", "showticklabels": bottom, "title": title, "nticks": 6}
        # The floors are the loss's own grid.
        figure.layout[f"xaxis{number}"] = x | ({"showgrid": False} if number == "" else {"matches": "x"})
        logarithmic = {"type": "log", "dtick": 1, "exponentformat": "e"} if name in ("norm", "ratio") else {"nticks": 4}
        y = {"domain": down, "anchor": f"x{number}", "automargin": False}
        figure.layout[f"yaxis{number}"] = y | ({"showgrid": False} if number == "" else logarithmic)
    return figure


def _wrapped(name: str, value: float) -> list[str]:
    """A floor's name in short lines; the relation (">= 1/2") and the value stay whole."""
    space = "\N{NO-BREAK SPACE}"
    words = f"{name.replace(' >= ', f'{space}≥{space}').replace(' = ', f'{space}={space}')}{space}{value:.4g}"
    return textwrap.wrap(words, _LETTERS, break_long_words=False, break_on_hyphens=False)


def _loss_range(losses: np.ndarray, firsts: list[np.ndarray], floors: list[float]) -> tuple[float, float]:
    """Floors and losses, in round steps. A loss that blew up leaves at the top, and the rest can still be told apart."""
    values = np.concatenate([losses, floors])
    if not len(values):
        return 0.0, 1.5
    usual = np.concatenate([*firsts, floors, [np.quantile(losses, 0.98)] if len(losses) else []])
    low, high = float(values.min()), min(float(values.max()), 1.5 * float(usual.max()))
    step = 10.0 ** math.floor(math.log10(max(high - low, 1e-6)))
    step *= next(k for k in (0.1, 0.2, 0.5, 1.0) if (high - low) / (k * step) <= 15) if high > low else 1
    bottom = math.floor(low / step - 0.4) * step
    return (max(bottom, 0.0) if low >= 0 else bottom), math.ceil(high / step + 0.4) * step


def _decades(*values: Any) -> tuple[int, int]:
    """Whole powers of ten around the values, at least one apart."""
    found = np.concatenate(values)
    found = np.log10(found[np.isfinite(found)])
    low, high = (math.floor(found.min()), math.ceil(found.max())) if len(found) else (-1, 0)
    return low, max(high, low + 1)
