"""The tab in which a training is set up: a preset, a size, the knobs, the data."""

import html
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import ipywidgets as widgets

from ..errors import OcclabError
from ..settings import Profile
from ..training import TrainConfig
from . import ui
from .data_choice import DataChoice
from .desk import Desk
from .knob_words import NOT_RECORDED, Gain, differences, gain_in_words, gains, in_words, recorded_in_words, remarks
from .knobs import (
    AUGMENTATION,
    KNOBS,
    LOSS,
    NETWORK,
    OPTIMISER,
    OUTPUT,
    PRESETS,
    SIZE,
    Knob,
    choices_of,
    default_size,
    settings,
    size_of,
    sizes,
    turned,
)

COLUMNS = ((OUTPUT, SIZE), (OPTIMISER, AUGMENTATION), (LOSS, NETWORK))
_STYLE = """
.occlab-setup .occlab-knob { margin: 1px 0; border-left: 4px solid transparent; }
.occlab-setup .occlab-knob input { height: 25px; }
.occlab-setup .occlab-changed { border-left-color: #E69F00; }
.occlab-setup .occlab-changed .widget-label { font-weight: 600; }
.occlab-setup .about { display: none; gap: 24px; align-items: start; }
.occlab-setup .no-knob > p { flex: 1 0 auto; }
.occlab-setup .about:not(.no-knob) > p { flex: 0 1 50ch; margin: 0; }
.occlab-setup .about table { font-size: 12px; white-space: nowrap; margin: 0; line-height: 1.2; }
.occlab-setup .about ul { flex: 1; columns: 2; list-style: none; margin: 0; padding: 0; font-size: 12px; line-height: 1.5; }
.occlab-setup:not(:has(.occlab-knob:is(:hover, :focus-within))) .no-knob { display: flex; }
"""
_POINTED = (  # what a knob does is shown while the pointer is on it, else while it has the keyboard
    ".occlab-setup:has(.{0}:hover) .about-{0}, "
    ".occlab-setup:not(:has(.occlab-knob:hover)):has(.{0}:focus-within) .about-{0} {{ display: flex; }}\n"
)
PRESET_KNOB = "occlab-preset"


class SetUp:
    """The tab. It keeps the desk's configuration at what the knobs say, as long as that is possible.

    Args:
        on_train: called once a training was started.
    """

    def __init__(self, desk: Desk, on_train: Callable[[], Any] = lambda: None) -> None:
        self.desk, self.on_train = desk, on_train
        self._preset = _dropdown("preset", list(PRESETS), "\n".join(f"{name}: {p.what}" for name, p in PRESETS.items()))
        self._size = _dropdown("size", list(sizes()), "Grid, width of the network, frames and steps; turned knobs stay turned")
        self._size.value = default_size()
        self._controls = {knob.label: _control(knob) for knob in KNOBS}
        for name, control in zip(_names(), self._controls.values(), strict=True):
            control.add_class(name)
            control.observe(self._turned, names="value")
        self._preset.add_class("occlab-knob")
        self._preset.add_class(PRESET_KNOB)
        self._preset.observe(self._chosen, names="value")
        self._size.observe(self._resized, names="value")
        self._undo = ui.button("undo changes", "Back to the preset, at this size", self._start_over)
        self._go = ui.button("train this", "", self._train, main=True, width="130px")
        self._words, self._remarks, self._about = widgets.HTML(), widgets.HTML(), widgets.HTML(_about(None))
        self._data = DataChoice(desk, self._wanted())
        self.problem = ""
        """Why what the knobs say is impossible, in a sentence; else empty."""
        self._filling = self._asked = False
        self._seconds: dict[Any, float] = {}
        """Of one step, by what it depends on; measured in this desk's trainings."""
        self._base, self._base_name = desk.config, desk.name
        self._config = desk.config
        self._at_rest: dict[str, Any] = {}
        """What the controls show where nothing was changed."""
        self.widget = self._lay_out()
        self._start_over()
        desk.on("setup", self._heard)
        desk.on("session", self._say)
        desk.on("runs", self._say)
        self._say()

    def _lay_out(self) -> widgets.Widget:
        style = "".join(_POINTED.format(name) for name in [PRESET_KNOB, *_names()])
        columns = []
        for groups in COLUMNS:
            inside: list[widgets.Widget] = []
            for group in groups:
                inside += [ui.heading(group), *(self._controls[knob.label] for knob in KNOBS if knob.group == group)]
            columns.append(ui.column(*inside, flex="1 1 248px", max_width="330px", grid_gap="0"))
        data = ui.column(self._data.widget, flex="1 1 266px", min_width="0", max_width="480px")
        bar = ui.row(self._preset, self._size, self._undo, self._go, overflow="visible")
        body = ui.row(*columns, data, align_items="stretch", overflow="visible", grid_gap="16px", flex_flow="row nowrap")
        sheet = widgets.HTML(f"<style>{_STYLE}{style}</style>", layout={"display": "none"})
        self._words.layout.min_height, self._about.layout.min_height = "56px", "94px"
        widget = ui.column(sheet, bar, self._words, body, self._remarks, self._about)
        widget.add_class("occlab-setup")
        return widget

    def show(self) -> None:
        """The tab was opened."""
        self._data.begin()
        if not self._asked:
            self._asked = True
            self.desk.work(gains, self._tell_recorded, what="what the recorded runs say")

    def hide(self) -> None:
        """Another tab was opened."""

    # --- from the controls to the desk ------------------------------------------------------------------------------

    def _chosen(self, _: Any) -> None:
        if self._filling:
            return
        if self._size.value is None:  # after a configuration from elsewhere
            self._show(size=default_size())
        self._start_over()

    def _resized(self, _: Any) -> None:
        if self._filling:
            return
        choices = self._choices()
        if self._preset.value is None:  # what the knobs say of a configuration from elsewhere, at this size
            every = choices_of(self._config)
            choices = {knob.label: every[knob.label] for knob in KNOBS if knob.group != SIZE and knob.label in every}
            self._show(preset="as it stood")
        self._start_over(choices)

    def _turned(self, _: Any) -> None:
        if not self._filling:
            self._apply()

    def _start_over(self, choices: dict[str, Any] | None = None) -> None:
        """Fill the controls from the preset at its size, then turn those of ``choices``."""
        if self._preset.value is not None and self._size.value is not None:
            self._base, self._base_name = settings(self._preset.value, sizes()[self._size.value], {}), self._preset.value
            self._data.want(self._wanted())
        self._fill(choices or {})
        self._apply()

    def _wanted(self) -> Profile:
        return size_of(self._preset.value, sizes()[self._size.value])

    def _show(self, **values: str | None) -> None:
        """Change what preset and size show, and nothing else."""
        self._filling = True
        for name, value in values.items():
            {"preset": self._preset, "size": self._size}[name].value = value
        self._filling = False

    def _fill(self, choices: dict[str, Any]) -> None:
        """Let the controls show the base, and beside it the choices."""
        self._filling = True
        shown = choices_of(self._base)
        for label, control in self._controls.items():
            control.value = shown.get(label)
        self._at_rest = {label: control.value for label, control in self._controls.items()}
        for label, choice in choices.items():
            self._controls[label].value = choice
        self._filling = False

    def _choices(self) -> dict[str, Any]:
        """The knobs that were turned since the preset was chosen."""
        values = {label: control.value for label, control in self._controls.items()}
        return {label: value for label, value in values.items() if value != self._at_rest[label]}

    def _apply(self) -> None:
        choices = self._choices()
        try:
            config = turned(self._base, choices) if choices else self._base
        except OcclabError as error:
            self.problem = str(error)
            self._say()
            return
        self.problem, self._config = "", config
        turns = [self._base_name, *(f"{label} {choice}" for label, choice in choices.items())]
        self.desk.set_up(config=config, name=", ".join(turns))

    def _heard(self) -> None:
        """The desk was changed, by this tab or by another one."""
        if self.desk.config != self._config:
            self._base, self._base_name = self.desk.config, self.desk.name
            self._config, self.problem = self._base, ""
            self._show(preset=None, size=None)
            self._fill({})
        self._say()

    def _train(self) -> None:
        try:
            self.desk.new_session().start()
        except OcclabError as error:
            self.desk.fail(error)
            return
        self.on_train()

    # --- what the tab says ------------------------------------------------------------------------------------------

    def _say(self) -> None:
        choices, frames = self._choices(), len(self.desk.frames)
        for label, control in self._controls.items():
            (control.add_class if label in choices else control.remove_class)("occlab-changed")
        self._undo.disabled = not choices
        problem = self.problem and f"{self.problem}. What was possible last is kept"
        if not problem and frames and self._config.batch_size > frames:
            problem = f"batch size is {self._config.batch_size}, but there are only {frames} frames to train on"
        self._go.disabled = bool(problem) or not frames
        self._go.tooltip = (
            "Not possible as it is: the sentence beside says why"
            if problem
            else "Train this set-up; a training in hand is stopped, and keeps its folder"
            if frames
            else "There are no frames yet"
        )
        ui.put(self._words, ui.card("This cannot be:", f"{problem}.", "bad") if problem else self._in_words())
        ui.put(self._remarks, "".join(ui.card("", remark, "warn") for remark in ([] if problem else remarks(self._config))))

    def _in_words(self) -> str:
        config, changed = self._config, differences(self._config)
        listed = " · ".join(f"{label} {choice}" for label, choice in changed.items())
        seconds = self._seconds_a_step(config)
        long = (
            f"about {ui.duration(seconds * config.steps)}, by the last such training"
            if seconds
            else "how long is known after a first run"
        )
        return (
            f"<div>{html.escape(in_words(config))} {config.steps:,} steps: {long}.</div>"
            f"<div><b>{'Different from as it stood:' if changed else 'As it stood.'}</b> {html.escape(listed)}</div>"
        )

    def _seconds_a_step(self, config: TrainConfig) -> float | None:
        """By the training in hand, or one that was: of a step that costs the same."""
        session = self.desk.session
        if session is not None and session.steps:
            self._seconds[_cost(session.config)] = median(step.seconds for step in session.steps[-20:])
        return self._seconds.get(_cost(config))

    def _tell_recorded(self, known: Mapping[str, Sequence[Gain]]) -> None:
        """Add what the recorded runs say."""
        for knob in KNOBS:
            self._controls[knob.label].tooltip = f"{knob.what}\n{recorded_in_words(known.get(knob.label))}"
        self._about.value = _about(known)


def _dropdown(label: str, options: list[str], tooltip: str, width: str = "290px") -> widgets.Dropdown:
    layout, style = {"width": width}, {"description_width": "50px"}
    return widgets.Dropdown(options=options, description=label, tooltip=tooltip, layout=layout, style=style)


def _control(knob: Knob) -> widgets.Widget:
    common = {
        "description": knob.label,
        "tooltip": knob.what,
        "layout": {"width": "auto", "height": "25px"},
        "style": {"description_width": "100px"},
    }
    if knob.levels:
        made = widgets.Dropdown(options=list(knob.levels), **common)
    elif isinstance(knob.high, int):
        made = widgets.BoundedIntText(min=knob.low, max=knob.high, **common)
    else:
        made = widgets.BoundedFloatText(min=knob.low, max=knob.high, step=5, **common)
    made.add_class("occlab-knob")
    return made


def _about(known: Mapping[str, Sequence[Gain]] | None) -> str:
    """HTML of what each knob does and did; the style sheet shows the one that is pointed at."""
    hint = "Point at a knob, or move to it with the keyboard, to read what it does and what it did in the recorded runs."
    about = {"no-knob occlab-quiet": f"<p>{hint}</p>"}
    for name, knob in zip(_names(), KNOBS, strict=True):
        what = f"<p><b>{html.escape(knob.label)}.</b> {html.escape(knob.what)}</p>"
        about[f"about-{name}"] = what + ("" if known is None else _recorded(known.get(knob.label)))
    gained = {name: " ".join(map(_only, (known or {}).get(f"preset {name}", ()))) or NOT_RECORDED for name in list(PRESETS)[1:]}
    items = "".join(f"<li><b>{html.escape(name)}</b> {gain}</li>" for name, gain in gained.items())
    what = "<b>preset.</b> Where to start from; all knobs follow. Beside each: its recorded gain in IoU over as it stood."
    about[f"about-{PRESET_KNOB}"] = f"<p>{what}</p><ul>{items}</ul>"
    return "".join(f'<div class="about {name}">{text}</div>' for name, text in about.items())


def _recorded(found: Sequence[Gain] | None) -> str:
    if not found:
        return f'<div class="occlab-quiet">{recorded_in_words(found)}</div>'
    heads = list(found[0].by_head)
    rows = [(f"{gain.of}, {gain.measure}", *map(gain_in_words, gain.by_head.values())) for gain in found]
    return ui.table(("recorded change on streets held out", *(head or "" for head in heads)), rows)


def _only(gain: Gain) -> str:
    (comparison,) = gain.by_head.values()
    return gain_in_words(comparison)


def _names() -> list[str]:
    return [f"occlab-knob-{i}" for i in range(len(KNOBS))]


def _cost(config: TrainConfig) -> tuple[Any, ...]:
    """What the time of a step depends on; turned frames are voxelised anew in every step."""
    return config.model, config.grid, config.batch_size, config.precision, config.rotation > 0
