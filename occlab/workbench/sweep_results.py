"""What the runs of a sweep say so far: the differences drawn, and every number in a table."""

from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets

from ..ablation import Comparison, Design, Row, compare_arms, effects_of, summary_of_arms
from ..ablation.rows import failures
from ..viz import interval_figure
from ..viz.dark import paint
from . import ui
from .desk import Desk
from .latest import Latest
from .live_figure import LiveFigure, lines

MEASURE = "held_out_iou"

Said = tuple[str, str, Comparison]
"""A change, the head it was made on or "", and the difference it made."""


def said(design: Design, rows: Sequence[Row]) -> list[Said]:
    """In a factorial the main effects and interactions of two; else each arm against the one that the design compares it with,
    as soon as both have runs."""
    if any(arm.levels for arm in design.arms):
        return [
            (" = ".join([effect.name, *effect.aliases]), _head(group), effect.comparison)
            for group, effects in effects_of(design, rows, MEASURE, True).items()
            for effect in effects
            if group != "all" or "head" in effect.factors  # the others stand under each head
        ]
    there, group = {row["arm"] for row in rows}, {arm.name: arm.group for arm in design.arms}
    found = compare_arms([row for row in rows if row["against"] is None or row["against"] in there], MEASURE, True)
    return [(arm.removeprefix(f"{group[arm]}: "), _head(group[arm]), made) for arm, made in found.items()]


def _head(group: str) -> str:
    return "both" if group == "all" else group.removeprefix("head=")


class Results:
    """Figure and tables, drawn anew from time to time."""

    def __init__(self, desk: Desk) -> None:
        self._desk, self._latest = desk, Latest(desk, "differences of a sweep")
        self.figure, self._table, self._failed = LiveFigure(), widgets.HTML(), widgets.HTML()
        self.widget = ui.column(self._failed, self.figure.widget, self._table)
        desk.on("theme", self._paint)

    def draw(self, design: Design, rows: Sequence[Row]) -> None:
        """What these rows say; intervals and figure are made in the background."""

        def job() -> tuple[Any, str]:
            found = said(design, rows)
            return _figure(design, found), f"{_differences(found)}<br>{_arms(rows)}"

        self._latest.ask(job, lambda made: self._show(*made, failures(rows)))

    def _show(self, figure: Any, tables: str, failed: Sequence[Row]) -> None:
        self.figure.widget.layout.display = "flex" if figure is not None else "none"
        if figure is not None:
            self.figure.draw(figure, self._desk.dark)
        self._table.value = tables
        cards = [ui.card(f"Failed: {row['arm']}, seed {row['seed']}.", row["error"] or "", "bad") for row in failed]
        self._failed.value = "".join(cards)

    def _paint(self) -> None:
        if self.figure.figure is not None:
            paint(self.figure.figure, self._desk.dark)


def _figure(design: Design, found: Sequence[Said]) -> Any:
    """None before the first difference."""
    heads = {head for _, head, _ in found}
    bars = [
        (lines(label, 40), c.difference, c.low, c.high, head if len(heads) > 1 else c.verdict)
        for label, head, c in found
        if c.difference is not None
    ]
    what = "Effects on" if any(arm.levels for arm in design.arms) else "Differences in"
    subtitle = "mean over seeds with its 95 % interval, as far as the runs are made"
    return interval_figure(bars, title=f"{what} the IoU, held out", subtitle=subtitle) if bars else None


def _differences(found: Sequence[Said]) -> str:
    header = ("change", "pairs", "difference", "p, by Holm", "verdict", "because")
    cells = [
        (f"{label}, {head}" if head else label, c.n, c.difference, c.adjusted_p, c.verdict, c.reason)
        for label, head, c in found
    ]
    return ui.table(header, cells) if cells else ""


def _arms(rows: Sequence[Row]) -> str:
    header = ("arm", "runs", "failed", "IoU, held out", "lowest", "highest", "settled loss", "its p = 1/2")
    cells = []
    for arm in summary_of_arms(rows):
        iou, loss, half = (arm[name] or {} for name in (MEASURE, "settled_loss", "half_floor"))
        numbers = (iou.get("mean"), iou.get("min"), iou.get("max"), loss.get("mean"), half.get("mean"))
        cells.append((arm["arm"], arm["n"], arm["failed"] or None, *numbers))
    return ui.table(header, cells) if cells else ""
