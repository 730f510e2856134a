"""Which levels of which knobs an ablation compares: boxes to tick, and what they mean in a design file."""

import html
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import ipywidgets as widgets

from ..ablation.both_heads import HEADS
from ..errors import OcclabError
from ..training import TrainConfig
from . import ui
from .knobs import KNOBS, Choice, Knob, choices_of, knob

AS_SET_UP = "as set up"

Chosen = Mapping[str, Sequence[Choice]]
"""Label of a knob -> the levels to try beside the one that is set up, in the order in which they were chosen."""


def comparison(config: TrainConfig, kind: str, chosen: Chosen, both_heads: bool) -> dict[str, Any]:
    """What is compared, as a design file says it; see :func:`.kept_designs.document`.

    Raises:
        OcclabError: nothing is chosen, or what a factorial cannot have.
    """
    if not chosen:
        raise OcclabError("tick at least one level that differs from the set-up")
    switches = {f"{label}: {level}": knob(label).changes(level) for label, some in chosen.items() for level in some}
    repeated = {"for_each": {"head": [*HEADS]}} if both_heads else {}
    if kind == "one change":  # arm by arm: two levels of one knob change the same, and are no two factors
        return {"arms": {AS_SET_UP: {}, **switches}} | repeated
    if kind == "ladder":
        return {"design": kind, "factors": switches} | repeated
    factors: dict[str, Any] = {}
    for label, some in chosen.items():
        changes = [knob(label).changes(level) for level in some]
        if len(some) == 1:
            factors[f"{label}: {some[0]}"] = changes[0]
        elif len(changes[0]) == 1:
            [name] = changes[0]
            factors[name] = [reduce(getattr, name.split("."), config), *(change[name] for change in changes)]
        else:
            raise OcclabError(f"a {kind} takes one level of {label} here, for its levels change several settings at once")
    return {"design": kind, "factors": factors} | repeated


class Levels:
    """The knobs and their levels, each with a box to tick. The level that is set up is ticked already, and stays so.

    Args:
        changed: called when somebody has ticked.
    """

    def __init__(self, changed: Callable[[], Any]) -> None:
        self._changed, self._filling = changed, False
        self.boxes: dict[tuple[str, str], widgets.Checkbox] = {}
        """By label and level."""
        self.numbers: dict[str, widgets.Text] = {}
        """By label, for knobs that are numbers."""
        self._order: list[tuple[str, Choice]] = []
        shown = [one for one in KNOBS if one.label != "seed"]
        half = (len(shown) + 1) // 2
        columns = [ui.column(*map(self._row, some), flex="1 1 480px", grid_gap="0") for some in (shown[:half], shown[half:])]
        self.widget = ui.row(*columns, align_items="flex-start", grid_gap="4px 24px")

    def chosen(self) -> dict[str, list[Choice]]:
        """What is ticked beside the set-up; see :data:`Chosen`."""
        found: dict[str, list[Choice]] = {}
        for label, level in self._order:
            found.setdefault(label, []).append(level)
        return found

    def present(self, config: TrainConfig) -> None:
        """Show what is set up; a level that was ticked and is the set-up's now is no longer chosen."""
        now, self._filling = choices_of(config), True
        self._order = [(label, level) for label, level in self._order if now.get(label) != level]
        for (label, level), box in self.boxes.items():
            box.disabled = now.get(label) == level
            box.value = box.disabled or (label, level) in self._order
        for label, text in self.numbers.items():
            text.placeholder = f"{now[label]:g} is set up; try ..."
        self._filling = False

    def _row(self, one: Knob) -> widgets.HBox:
        said = f'<span title="{html.escape(one.what)}">{html.escape(one.label)}</span>'
        label = widgets.HTML(said, layout={"width": "128px"})
        controls = [self._box(one, level) for level in one.levels] or [self._text(one)]
        inside = ui.row(*controls, grid_gap="0 10px", flex="1 1 0", min_width="0")
        return ui.row(label, inside, flex_flow="row nowrap", align_items="flex-start", min_height="26px")

    def _box(self, one: Knob, level: str) -> widgets.Checkbox:
        box = widgets.Checkbox(
            description=level,
            indent=False,
            tooltip=f"{one.label}: {level}. {one.what}",
            layout={"width": "auto", "height": "24px", "margin": "0"},
        )
        box.observe(lambda change: self._ticked(one.label, level, change["new"]), names="value")
        self.boxes[one.label, level] = box
        return box

    def _text(self, one: Knob) -> widgets.Text:
        text = widgets.Text(
            continuous_update=False,
            tooltip=f"{one.label}: numbers to try, with commas between. {one.what}",
            layout={"width": "170px", "margin": "0"},
        )
        text.observe(lambda _: self._typed(one.label), names="value")
        self.numbers[one.label] = text
        return text

    def _ticked(self, label: str, level: str, on: bool) -> None:
        if not self._filling:
            self._order = [*(pair for pair in self._order if pair != (label, level)), *([(label, level)] if on else [])]
            self._changed()

    def _typed(self, label: str) -> None:
        number = int if isinstance(knob(label).high, int) else float
        self._order = [pair for pair in self._order if pair[0] != label]
        for word in filter(None, map(str.strip, self.numbers[label].value.split(","))):
            try:
                self._order.append((label, number(word)))
            except ValueError:
                self._order.append((label, word))  # the library says what the setting must be
        self._changed()
