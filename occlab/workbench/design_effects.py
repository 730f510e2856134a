"""What the factors of a design did: the effects and differences of a sweep's table, as a figure and in words."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from ..ablation import (
    Comparison,
    Row,
    compare_arms,
    effects_of,
    parse_design,
    read_table,
    recorded_about,
    recorded_table,
    summary_of_arms,
)
from ..ablation.recorded import TABLES
from ..ablation.report import WORDS
from ..ablation.results import MEASURES, about_path
from ..errors import OcclabError
from ..files import stamp, typed_path
from ..viz import interval_figure
from . import ui
from .desk import Desk
from .live_figure import LiveFigure, lines

ROOM = 240
"""Pixels that the rows of the figure may take; the table below it has all of them."""
MEASURE_WORDS = WORDS | {
    "held_out_average_precision": "average precision, held out (higher is better)",
    "settled_loss": "settled loss (lower is better; of one kind of loss only)",
}


@dataclass(frozen=True)
class Findings:
    """What a table says by one measure."""

    arms: list[dict[str, Any]]
    """As :func:`occlab.ablation.summary_of_arms` has them."""
    judged: dict[str, dict[str, Comparison]] = field(default_factory=dict)
    """What -> group -> difference: each effect of a factorial, or each arm against the one it is compared with."""
    factorial: bool = False


def recorded_names() -> list[str]:
    """The sweeps that ship with the repository."""
    return sorted(path.stem for path in TABLES.glob("*.csv"))


def tables_near(root: Path) -> list[Path]:
    """Tables of ablations beside the folder of the runs and one folder below, known by the note on where they come from."""
    found = [path for ending in ("csv", "parquet") for path in root.parent.glob(f"*/*.{ending}")]
    found += [path for ending in ("csv", "parquet") for path in root.parent.glob(f"*.{ending}")]
    return sorted(path for path in found if about_path(path).exists())


def read(source: str | Path) -> tuple[list[Row], str | None]:
    """The rows of a recorded sweep (by its name) or of a table on the disk, and the text of the design; None without one.

    Raises:
        OcclabError: no such table, or a damaged one.
    """
    if isinstance(source, str):
        return recorded_table(source), recorded_about(source).get("design")
    rows = read_table(source)
    try:
        design = json.loads(about_path(source).read_text(encoding="utf-8")).get("design")
    except (OSError, ValueError, AttributeError):
        design = None
    return rows, design if isinstance(design, str) else None


def findings(rows: list[Row], design: str | None, measure: str) -> Findings:
    """Effects where the design is a factorial of two levels, else each arm against its yardstick.

    Raises:
        OcclabError: a table that is not of this design, or lacks an arm that others are compared with.
    """
    arms, higher = summary_of_arms(rows), MEASURES[measure]
    judged: dict[str, dict[str, Comparison]] = {}
    if design is not None:
        effects = effects_of(parse_design(design, "the table's design"), rows, measure, higher)
        for group, of_group in effects.items():
            for effect in of_group:
                judged.setdefault(" = ".join([effect.name, *effect.aliases]), {})[group] = effect.comparison
        for of_groups in judged.values():  # over the groups, only what they differ in; the rest is said of each
            if len(of_groups) > 1:
                of_groups.pop("all", None)
        if judged:
            return Findings(arms, judged, factorial=True)
    groups = {row["arm"]: row["group"] for row in rows}
    for arm, comparison in compare_arms(rows, measure, higher).items():
        judged.setdefault(arm.removeprefix(f"{groups[arm]}: "), {})[groups[arm]] = comparison
    return Findings(arms, judged)


def largest(judged: dict[str, dict[str, Comparison]], room: int = ROOM) -> dict[str, dict[str, Comparison]]:
    """The largest differences that have room in a figure, the largest first."""

    def size(name: str) -> float:
        return max((abs(c.difference) for c in judged[name].values() if c.difference is not None), default=0.0)

    each = 34 + 20 * (max(map(len, judged.values()), default=1) - 1)  # pixels of a label with its rows
    return {name: judged[name] for name in sorted(judged, key=size, reverse=True)[: max(3, room // each)]}


class DesignEffects:
    """The view: a table to choose, a measure, and whether one group is shown or all beside each other."""

    def __init__(self, desk: Desk) -> None:
        self._desk, self._asked = desk, 0
        self._of: tuple[Any, ...] | None = None  # the table that was read last, as it was on the disk then
        self._found: Findings | None = None
        label = {"style": {"description_width": "initial"}}
        self.source = widgets.Dropdown(
            options=self._offered(), description="sweep", tooltip="A recorded sweep, or a table beside your runs", **label
        )
        self.path = widgets.Text(
            description="or a file",
            placeholder="path of a table, .csv or .parquet",
            continuous_update=False,
            tooltip="A table that occlab ablate --output wrote; press Enter to read it",
            layout={"width": "290px"},
            **label,
        )
        self.measure = widgets.Dropdown(
            options=[(MEASURE_WORDS[name], name) for name in MEASURES], description="by", tooltip="What is compared", **label
        )
        self.group = widgets.Dropdown(description="of", tooltip="Which repetition of the design", **label)
        self._note, self._figure, self._table = ui.note(quiet=True), LiveFigure(), widgets.HTML()
        self.widget = ui.column(
            ui.row(self.source, self.path), ui.row(self.measure, self.group), self._note, self._figure.widget, self._table
        )
        self._listed, self._filling = self.source.value, False  # what was chosen last of the list
        desk.on("theme", self._draw)
        self.source.observe(self._chosen, names="value")
        self.measure.observe(lambda _: self._read(), names="value")
        self.path.observe(self._typed, names="value")
        self.group.observe(lambda _: self._filling or self._draw(), names="value")

    def show(self) -> None:
        """Offer the tables that there are now, and read the chosen one where that is news, as while its runs are made."""
        self._list()
        if self._of is None or self._of != self._as_it_is():
            self._read()

    def _offered(self) -> list[tuple[str, str | Path | None]]:
        here = [(f"{path.parent.name}/{path.name}", path) for path in tables_near(self._desk.root)]
        return [*((f"recorded: {name}", name) for name in recorded_names()), *here] or [("none", None)]

    def _list(self) -> None:
        """Fill the list. While a file is typed nothing in it is chosen, so that all of it can be."""
        offered, self._filling = self._offered(), True
        if list(self.source.options) != offered:
            self.source.options = offered
        if self._listed not in [value for _, value in offered]:
            self._listed = offered[0][1]
        self.source.value = None if self.path.value.strip() else self._listed
        self._filling = False

    def _chosen(self, _: Any) -> None:
        if not self._filling:
            self._listed, self._filling = self.source.value, True
            self.path.value = ""
            self._filling = False
            self._read()

    def _typed(self, _: Any) -> None:
        if not self._filling:
            self._list()
            self._read()

    def _source(self) -> str | Path | None:
        typed = self.path.value.strip()
        return typed_path(typed) if typed else self.source.value

    def _as_it_is(self) -> tuple[Any, ...]:
        """The chosen table as it is on the disk now, to be told from what it was."""
        try:
            source = self._source()
        except OcclabError:
            return ()
        return (source, stamp(source) if isinstance(source, Path) else None)

    def _read(self) -> None:
        self._of, measure = self._as_it_is(), self.measure.value
        self._asked += 1
        asked = self._asked
        try:
            source = self._source()
            if source is None:
                raise OcclabError("There is no table yet: make a design under Ablate, or type the path of one.")
        except OcclabError as error:
            self._failed(error)
            return
        ui.say(self._note, "Comparing ...")
        self._desk.work(
            lambda: findings(*read(source), measure),
            self._if_last(asked, self._take),
            self._if_last(asked, self._failed),
            what="effects of a design",
        )

    def _if_last(self, asked: int, then: Callable[[Any], None]) -> Callable[[Any], None]:
        """Of several questions on their way only the last one's answer is shown."""
        return lambda result: then(result) if asked == self._asked else None

    def _failed(self, error: Exception) -> None:
        self._found = None
        self._figure.widget.layout.display, self._table.value = "none", ""
        ui.say(self._note, str(error))

    def _take(self, found: Findings) -> None:
        self._found = found
        groups = list(dict.fromkeys(group for of_groups in found.judged.values() for group in of_groups))
        before, self._filling = self.group.value, True
        options = [(group or "the design", group) for group in groups]
        self.group.options = [("all of them", "*"), *options] if len(groups) > 1 else options
        offered = [value for _, value in self.group.options]
        self.group.value = before if before in offered else next(iter(offered), None)
        self.group.layout.display = "flex" if len(groups) > 1 else "none"
        self._filling = False
        self._draw()

    def _draw(self) -> None:
        if self._found is None:
            return
        group, found = self.group.value, self._found
        single = len(self.group.options) < 2
        judged = {
            name: {g: c for g, c in of_groups.items() if single or group in ("*", g)}
            for name, of_groups in found.judged.items()
        }
        judged = {name: of_groups for name, of_groups in judged.items() if of_groups}
        shown = largest({n: {g: c for g, c in o.items() if c.difference is not None} for n, o in judged.items()})
        one = len({g for of_groups in shown.values() for g in of_groups}) == 1
        bars = [
            (lines(name, 34), c.difference, c.low, c.high, c.verdict if one else lines(g or "the design", 60))
            for name, of_groups in shown.items()
            for g, c in of_groups.items()
        ]
        self._figure.widget.layout.display = "flex" if bars else "none"
        if bars:
            figure = interval_figure(bars, value_name=MEASURE_WORDS[self.measure.value].partition(" (")[0])
            figure.update_layout(height=figure.layout.height - 60, margin_t=16, title_text="", yaxis_tickfont_size=12)
            self._figure.draw(figure, self._desk.dark)
        what = "effects and interactions" if found.factorial else "differences"
        runs, failed = (sum(arm[count] for arm in found.arms) for count in ("n", "failed"))
        lost = f"; {failed} more gave no numbers" if failed else ""
        if not judged:
            said = "None of them is compared with another: the design names no yardstick."
        elif len(shown) < len(judged):
            said = f"The {len(shown)} largest of {len(judged)} {what} are drawn; the table below has all."
        else:
            said = f"All {len(judged)} {what}, the largest first."
        ui.say(self._note, f"{runs} runs of {len(found.arms)} arms{lost}. {said}")
        self._table.value = _folded("Every one of them, with its verdict", _judged_table(judged)) + _folded(
            "The arms over their seeds", _arms_table(found.arms)
        )


def _judged_table(judged: dict[str, dict[str, Comparison]]) -> str:
    header = ("", "of", "pairs", "difference", "95 % interval", "p, Holm", "verdict", "")
    cells = []
    for name, of_groups in judged.items():
        for group, c in of_groups.items():
            between = "" if c.low is None else f"{c.low:+.4f} to {c.high:+.4f}"
            cells.append((name, group, c.n, c.difference, between, c.adjusted_p, c.verdict, c.reason))
    return ui.table(header, cells) if cells else ""


def _arms_table(arms: list[dict[str, Any]]) -> str:
    def mean(arm: dict[str, Any], measure: str) -> float | None:
        return arm[measure] and arm[measure]["mean"]

    header = ("arm", "runs", "failed", "settled loss", "at p = 1/2", "IoU held out", "lowest", "highest", "IoU training")
    cells = []
    for arm in arms:
        held_out = arm["held_out_iou"] or {"min": None, "max": None}
        numbers = [mean(arm, name) for name in ("settled_loss", "half_floor", "held_out_iou")]
        cells.append(
            (arm["arm"], arm["n"], arm["failed"], *numbers, held_out["min"], held_out["max"], mean(arm, "training_iou"))
        )
    return ui.table(header, cells)


def _folded(summary: str, inside: str) -> str:
    """Folded away, so that the figure stays in view."""
    return f"<details><summary>{summary}</summary>{inside}</details>" if inside else ""
