"""Runs side by side: curves over each other, differences paired by seed, all of them over parallel axes, a design's effects."""

from pathlib import Path
from typing import Any

import ipywidgets as widgets

from ..ablation import Comparison
from ..viz import gradient_figure, interval_figure, loss_figure
from ..viz.dark import paint
from ..viz.parallel import brushed, parallel_figure
from . import run_table, ui
from .design_effects import DesignEffects
from .desk import Desk
from .live_figure import LiveFigure, lines
from .run_table import CURVES, MEASURES, RunRow

VIEWS = ("curves", "table and differences", "parallel coordinates", "effects of a design")
MOST_AXES = 9
"""Settings in the parallel plot; of more, those in which the most runs differ from what is usual."""
HEIGHT = 396
"""Of the curves and the parallel plot, pixels."""
ALONE = "Choose a run of another configuration too."
NO_RUNS = "No runs yet: train one, and it stands here."


class Compare:
    """The tab. Runs are chosen in the list at the left; every view at the right is of the chosen ones."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._rows: list[RunRow] = []
        self._kept: set[Path] | None = None
        """Folders of the runs that the parallel plot's brushes leave; None where nothing was brushed."""
        self._by_hand = self._visible = self._filling = False
        self._asked, self._drawn = 0, None
        self.runs = widgets.SelectMultiple(
            rows=20,
            layout={"width": "100%"},
            tooltip="Runs to compare: hold Ctrl or Shift to choose several",
        )
        self.reference = widgets.Dropdown(
            options=[("none", "")],
            layout={"width": "100%"},
            tooltip="Pin a chosen run as the one that the others are compared with",
        )
        self.view = widgets.ToggleButtons(options=VIEWS, style={"button_width": "auto"}, tooltips=_TOOLTIPS)
        self._note = ui.note(quiet=True)
        self._curves, self._differences, self._parallel = LiveFigure(), LiveFigure(), LiveFigure()
        self.curve = widgets.ToggleButtons(
            options=[(words, name) for name, words in CURVES.items()],
            style={"button_width": "auto"},
            tooltips=["The loss of each step", "The overlap with the target, by step", "Norm of the gradient before clipping"],
        )
        self.measure = widgets.Dropdown(
            options=[(words, name) for name, words in MEASURES.items()],
            description="difference in",
            style={"description_width": "initial"},
            tooltip="What is compared with the reference, seed by seed",
        )
        self._table, self._judged = widgets.HTML(), widgets.HTML()
        self._against, self._unbrushed = ui.note(), ui.note(quiet=True)
        self.clear = ui.button("clear brushes", "Show all runs again", self._clear)
        self.effects = DesignEffects(desk)
        pages = (
            ui.column(self.curve, self._curves.widget),
            ui.column(ui.row(self.measure, self._against), self._differences.widget, self._judged, self._table),
            ui.column(ui.row(self._unbrushed, self.clear), self._parallel.widget),
            self.effects.widget,
        )
        self._pages = dict(zip(VIEWS, pages, strict=True))
        looks = widgets.HTML(_LOOKS, layout={"height": "0", "margin": "0"})
        left = ui.column(
            ui.heading("Runs"),
            self.runs,
            ui.heading("Pin as reference"),
            self.reference,
            self._note,
            looks,
            flex="1 1 200px",
            max_width="340px",
            min_width="0",
        )
        right = ui.column(self.view, *pages, flex="5 1 420px", min_width="0")
        self.widget = widgets.HBox([left, right], layout={"grid_gap": "14px", "align_items": "flex-start"})
        left.add_class("occlab-runs")
        right.add_class("occlab-compared")
        self.runs.observe(self._chosen, names="value")
        self.reference.observe(self._pinned, names="value")
        for control in (self.view, self.curve, self.measure):
            control.observe(lambda _: self._draw(), names="value")
        desk.on("runs", self._changed)
        desk.on("session", self._changed)
        desk.on("reference", self._changed)
        desk.on("theme", self._draw)
        desk.on("progress", self._progress)
        self._turn()

    def show(self) -> None:
        """The tab was opened."""
        self._visible = True
        self._fill()

    def hide(self) -> None:
        """Another tab was opened."""
        self._visible = False

    def chosen(self) -> list[RunRow]:
        """The chosen runs, in the order of the list."""
        return [row for row in self._rows if row.folder in self.runs.value]

    def choose(self, folders: list[Path]) -> None:
        """Choose runs by their folders."""
        self.runs.value = tuple(folder for _, folder in self.runs.options if folder in folders)

    # --- the list ---------------------------------------------------------------------------------------------------

    def _changed(self) -> None:
        if self._visible:
            self._fill()

    def _fill(self) -> None:
        """Read the runs anew. Until somebody chooses, the last two configurations are chosen."""
        self._rows = run_table.table(self._desk.runs())
        listed = [row for row in self._rows if self._kept is None or row.folder in self._kept]
        chosen = [row.folder for row in listed if row.folder in self.runs.value] if self._by_hand else []
        options = [(row.label, row.folder) for row in listed]
        self._filling = True
        if list(self.runs.options) != options:
            self.runs.options = options
        self.choose(chosen or _telling(listed))
        self._offer()
        self._filling = False
        self._draw()

    def _offer(self) -> None:
        """What can be pinned: the chosen runs, and the one that is."""
        self._filling = True
        pinned = self._desk.reference
        offered = [row for row in self._rows if row.folder in self.runs.value or row.folder == pinned]
        self.reference.options = [("none", ""), *((row.label, row.folder) for row in offered)]
        self.reference.value = pinned if any(row.folder == pinned for row in offered) else ""
        self._filling = False

    def _chosen(self, _: Any) -> None:
        if not self._filling:
            self._by_hand = True
            self._offer()
            self._draw()

    def _pinned(self, change: Any) -> None:
        if not self._filling:
            self._desk.reference = change["new"] or None
            self._desk.tell("reference")

    # --- the views --------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        for name, page in self._pages.items():
            page.layout.display = "flex" if name == self.view.value else "none"

    def _draw(self) -> None:
        self._turn()
        if not self._visible:
            return
        ui.say(self._note, f"{len(self.runs.options)} runs, {len(self.runs.value)} chosen" if self._rows else NO_RUNS)
        views = (self._draw_curves, self._draw_table, self._draw_parallel, self.effects.show)
        dict(zip(VIEWS, views, strict=True))[self.view.value]()

    def _progress(self) -> None:
        session = self._desk.session
        if not self._visible or session is None:
            return
        if session.steps and session.folder not in {row.folder for row in self._rows}:
            self._fill()
        elif self.view.value == "curves" and session.folder in self.runs.value:
            self._draw_curves()

    def _draw_curves(self) -> None:
        session, rows, what = self._desk.session, self.chosen(), self.curve.value
        live = {} if session is None else {session.folder: session.steps}
        curves = {lines(name, 60): curve for name, curve in run_table.curves(rows, what, live).items()}
        if what == "grad_norm":
            clips = {row.run.config.clip_norm for row in rows} - {None}
            # A label is its name and its value; the blanks keep several of one name apart.
            figure = gradient_figure(curves, clip={"clipped at" + " " * i: clip for i, clip in enumerate(sorted(clips))})
        elif what == "loss":
            figure = loss_figure(curves, run_table.floors(rows, self._rows))
        else:
            figure = loss_figure(curves, title="IoU", loss_name=CURVES[what])
        figure.update_layout(height=HEIGHT, title_text="", margin_t=34)
        self._curves.draw(figure, self._desk.dark)

    def _draw_table(self) -> None:
        rows = self.chosen()
        header = ("run", "seed", "steps", "settled loss", "its p = 1/2", "stopped on", "IoU held out", "IoU training", "state")
        cells = []
        for row in rows:
            state = f"{row.state}, the reference" if row.folder == self._desk.reference else row.state
            stopped = (row.settled_loss, row.half, "" if row.floor is None else row.floor_name)
            cells.append((row.name, row.seed, row.steps, *stopped, row.held_out_iou, row.training_iou, state))
        self._table.value = ui.table(header, cells) if rows else ""
        reference = next((row for row in self._rows if row.folder == self._desk.reference), None)
        self._asked += 1
        if reference is None or not rows:
            self._show_differences({}, "Pin a run as the reference to see how the others differ from it.")
            return
        asked, everything, measure = self._asked, list(self._rows), self.measure.value
        said = f"Less that of the same seed of: {reference.name}."
        self._desk.work(
            lambda: run_table.against(reference, everything, [row.name for row in rows], measure),
            lambda found: asked == self._asked and self._show_differences(found, said if found else f"{said} {ALONE}"),
            what="differences by seed",
        )

    def _show_differences(self, found: dict[str, Comparison | str], said: str) -> None:
        cells: list[tuple[Any, ...]] = []
        for name, c in found.items():
            verdict = (0, None, "not compared", c) if isinstance(c, str) else (c.n, c.difference, c.verdict, c.reason)
            cells.append((name, *verdict))
        ui.say(self._against, said)
        self._judged.value = ui.table(("run", "pairs", "difference", "verdict", "because"), cells) if cells else ""
        bars = [
            (lines(name, 34), c.difference, c.low, c.high, c.verdict) for name, c in found.items() if isinstance(c, Comparison)
        ]
        bars = [bar for bar in bars if bar[1] is not None]
        self._differences.widget.layout.display = "flex" if bars else "none"
        if bars:
            words = MEASURES[self.measure.value]
            figure = interval_figure(bars, value_name=f"difference in {words}")
            figure.update_layout(height=figure.layout.height - 60, margin_t=16, title_text="", yaxis_tickfont_size=12)
            self._differences.draw(figure, self._desk.dark)

    # --- the parallel plot ------------------------------------------------------------------------------------------

    def _plotted(self) -> list[RunRow]:
        return [row for row in self._rows if row.training_iou is not None]

    def _draw_parallel(self) -> None:
        rows = self._plotted()
        columns = run_table.columns(rows)
        results = [words for words in run_table.RESULTS if columns and words in columns[0]]
        self._parallel.widget.layout.display = "flex" if len(rows) > 1 else "none"
        if len(rows) < 2:
            ui.say(self._unbrushed, "This view needs two finished runs.")
            return
        columns, left_out = _fewer(columns, results)
        live = self._parallel.figure
        if live is not None and columns == self._drawn:  # drawing the same again would take the brushes away
            paint(live, self._desk.dark)
        else:
            self._drawn = columns
            figure = parallel_figure(columns, results, height=HEIGHT)
            if self._parallel.draw(figure, self._desk.dark):
                self._parallel.figure.data[0].on_change(lambda *_: self._brush(), "dimensions")
            if self._kept is not None:  # and did
                self._kept = None
                self._fill()
                return
        more = f" {len(left_out)} settings in which fewer runs differ have no axis." if left_out else ""
        ui.say(self._unbrushed, f"{len(rows)} finished runs. Drag along an axis to keep the runs that pass there.{more}")

    def _brush(self) -> None:
        rows, inside = self._plotted(), brushed(self._parallel.figure)
        self._kept = None if len(inside) == len(rows) else {rows[i].folder for i in inside}
        self._fill()

    def _clear(self) -> None:
        if self._parallel.figure is not None:
            with self._parallel.figure.batch_update():
                for dimension in self._parallel.figure.data[0].dimensions:
                    dimension.constraintrange = None
        self._kept = None
        self._fill()


def _telling(rows: list[RunRow]) -> list[Path]:
    """Folders of two runs that say something beside each other: the latest, and the latest of another configuration; of each
    the one that is finished, where there is one. Where there is one configuration, its latest two."""
    latest: dict[str, Path] = {}
    for row in sorted(rows, key=lambda row: row.run.summary is None):  # stable: the latest stay first
        latest.setdefault(row.name, row.folder)
    names = [*dict.fromkeys(row.name for row in rows)][:2]
    return [latest[name] for name in names] if len(names) > 1 else [row.folder for row in rows[:2]]


def _fewer(columns: list[dict[str, Any]], results: list[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """At most :data:`MOST_AXES` settings, and the names of those left out."""

    def unusual(name: str) -> int:
        texts = [str(each[name]) for each in columns]
        return len(texts) - max(map(texts.count, set(texts)))

    settings = [name for name in columns[0] if name not in results]
    shown = sorted(settings, key=unusual, reverse=True)[:MOST_AXES]
    kept = [name for name in columns[0] if name in shown or name in results]
    return [{name: each[name] for name in kept} for each in columns], [name for name in settings if name not in shown]


_LOOKS = """<style>
.occlab-runs select { font-size: 12px; }
.occlab-compared td:first-child { min-width: 100px; }
.occlab-compared th, .occlab-compared td { padding-right: 6px; }
</style>"""
_TOOLTIPS = [
    "Loss, IoU or gradient norm of the chosen runs over their steps",
    "What came out, and how the runs differ from the reference, seed by seed",
    "All finished runs: a line each, over an axis for each setting and result",
    "What each factor of a recorded sweep or of your own did",
]
