"""The tab in which a prediction is looked at: in 3-D beside its target, by its probabilities, and height by height."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import ipywidgets as widgets
from torch import Tensor

from ..errors import OcclabError
from ..frames import Frame
from ..training import Batches, make_fabric, predict
from ..viz import theme
from . import ui
from .desk import Desk
from .k3d_view import K3dView
from .latest import Latest
from .session import Session
from .volume import CAMERAS, Histogram, Slice, VolumeView

NOW = "now"
FOLLOW_EVERY = 2.0
"""Seconds between two looks at a network that trains."""
MOST_LOOKS = 60
"""About the most looks that following takes at one run: each is kept, as a snapshot."""
FLAT_AFTER = 0.12
"""Seconds by which the flat figures come after the 3-D one, so that the browser draws that first."""

VIEWS = {"Plotly": VolumeView, "k3d, every voxel": K3dView}
"""What can draw the two volumes in 3-D, the default first."""

_NONE = "No training is in hand: choose one under Set up, then train it under Train. What it predicts is shown here."
_WAITING = "Nothing is predicted yet: the training is getting its frames and its network ready."


@dataclass(frozen=True)
class Picture:
    """A prediction, and what it should have been."""

    session: Session
    frame: int
    """Number of the frame: those trained on come first, then those held out."""
    step: int
    """Updates that the network had seen."""
    p: Tensor
    """(Z, Y, X) float32, probabilities."""
    target: Tensor
    """(Z, Y, X) bool."""
    mask: Tensor | None
    """(Z, Y, X) bool, True where a voxel counts; None: everywhere."""


class Look:
    """The tab. Of the first frame there is a picture of every snapshot; of the others only one of the network as it stands."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.picture: Picture | None = None
        """What is shown."""
        self._visible = self._filling = False
        self._latest, self._looked = Latest(desk, "look at a prediction"), 0.0
        self._targets: dict[tuple[Session, int], tuple[Tensor, Tensor | None]] = {}
        self._view: VolumeView | K3dView | None = None
        self._histogram: Histogram | None = None
        self._plan: Slice | None = None
        self._flat_soon: Any = None
        self._counted: Picture | None = None
        self._outcome: Any = None
        wide = {"style": {"description_width": "initial"}}
        self.frame = widgets.Dropdown(
            options=[("none yet", 0)],
            description="frame",
            tooltip="Whose target is on the right",
            layout={"width": "270px"},
            **wide,
        )
        self._step_place = widgets.Box()
        self._offer([0, NOW], NOW)
        self.follow = widgets.Checkbox(
            True,
            description="follow",
            indent=False,
            tooltip="While it trains, show the newest every few seconds",
            layout={"width": "72px"},
        )
        self.threshold = widgets.FloatSlider(
            0.5,
            min=0,
            max=1,
            step=0.01,
            description="threshold",
            tooltip="A voxel counts as occupied where its probability is above this",
            layout={"width": "310px"},
            **wide,
        )
        self.height = widgets.IntSlider(
            0, min=0, max=0, description="height", tooltip="Which height is seen from above", layout={"width": "98%"}, **wide
        )
        self.legend = {
            k: widgets.Checkbox(
                True,
                description=f'<span style="color:{colour}">\N{BLACK SQUARE}</span> {name}',
                description_allow_html=True,
                indent=False,
                tooltip=f"Draw what is a {name}",
                layout={"width": "auto"},
            )
            for k, (name, colour) in theme.OUTCOMES.items()
        }
        self.cameras = {
            name: ui.button(name, f"See both {where}", lambda name=name: self._see(lambda view: view.look_from(name)))
            for name, where in zip(
                CAMERAS, ("from behind the car", "from above", "from the side", "from the front"), strict=True
            )
        }
        self.cameras["nearer"] = ui.button("+", "Nearer", lambda: self._see(lambda view: view.go_nearer(1.25)), width="32px")
        self.cameras["farther"] = ui.button(
            "\N{MINUS SIGN}", "Farther", lambda: self._see(lambda view: view.go_nearer(0.8)), width="32px"
        )
        for name in ("nearer", "farther"):
            self.cameras[name].layout.min_width = "32px"
        self.drawn_by = widgets.Dropdown(
            options=[*VIEWS],
            description="3-D by",
            tooltip="k3d draws every voxel, where Plotly draws blocks of a full volume",
            layout={"width": "205px", "display": "flex" if find_spec("k3d") else "none"},
            **wide,
        )
        self.note = ui.note(_NONE)
        self._scene, self._bars, self._plan_place = (
            widgets.VBox([], layout={"width": "100%", "min_width": "0"}) for _ in range(3)
        )
        flat = widgets.VBox([self.height, self._plan_place], layout={"flex": "1 1 290px", "min_width": "0"})
        self._bars.layout.flex = "1 1 290px"
        self._body = ui.row(
            ui.column(
                self._scene,
                ui.row(*self.cameras.values(), *self.legend.values(), self.drawn_by),
                flex="4 1 620px",
                min_width="0",
            ),
            ui.row(self._bars, flat, flex="1 1 290px", min_width="0", align_items="flex-start"),
            align_items="flex-start",
            display="none",
        )
        self.widget = ui.column(ui.row(self.frame, self._step_place, self.follow, self.threshold), self.note, self._body)
        self.frame.observe(lambda _: self._filling or self._ask(), names="value")
        self.follow.observe(self._followed, names="value")
        self.threshold.observe(lambda _: self._draw(), names="value")
        self.height.observe(lambda _: self._filling or self._draw_flat(), names="value")
        for box in self.legend.values():
            box.observe(lambda _: self._draw(), names="value")
        self.drawn_by.observe(lambda _: self._swap(), names="value")
        desk.on("session", self._taken)
        desk.on("progress", self._moved)
        desk.on("theme", self._paint)

    def show(self) -> None:
        """The tab was opened."""
        self._visible = True
        self._paint()
        self._fill()
        self._draw()
        self._ask()

    def hide(self) -> None:
        """Another tab was opened."""
        self._visible = False

    # --- what there is to choose from -----------------------------------------------------------------------------------

    def _taken(self) -> None:
        """Another training is in hand."""
        self._targets, self.picture, self._outcome = {}, None, None
        self._body.layout.display = "none"
        if self._visible:
            self._fill()
            self._ask()

    def _fill(self) -> None:
        """Steps and frames of the training in hand."""
        session = self.desk.session
        if session is None:
            return
        self._filling = True
        trained = len(session.frames)
        names = [(f"{f.name} ({'trained on' if i < trained else 'held out'})", i) for i, f in enumerate(_frames(session))]
        if list(self.frame.options) != names:
            self.frame.options = names
        steps = [*session.snapshots, NOW]
        if list(self.step.options) != steps:
            kept = self.step.value
            self._offer(steps, kept if kept in steps else NOW)
        self._filling = False

    def _offer(self, steps: list[int | str], chosen: int | str) -> None:
        """Another slider over the steps: one whose options change keeps its first end on the page, for the key End."""
        self.step = widgets.SelectionSlider(
            options=steps,
            value=chosen,
            description="step",
            disabled=self.frame.value > 0,
            tooltip="After how many steps of training; earlier steps are kept of the first frame only",
            style={"description_width": "initial"},
            layout={"width": "310px"},
        )
        self.step.observe(self._stepped, names="value")
        before, self._step_place.children = self._step_place.children, (self.step,)
        for old in before:
            ui.discard(old)

    def _stepped(self, change: Any) -> None:
        if not self._filling:
            self.follow.value = change["new"] == NOW
            self._ask()

    def _followed(self, change: Any) -> None:
        if change["new"]:
            self.step.value = NOW
            self._ask()

    def _moved(self) -> None:
        """The training has gone on, or its state has changed."""
        session, shown = self.desk.session, self.picture
        if not self._visible or session is None:
            return
        self._fill()
        if shown is not None and (not self.follow.value or shown.step == session.steps_made):
            return
        steps = abs(session.steps_made - shown.step) if shown is not None else session.config.steps
        early = time.monotonic() - self._looked < FOLLOW_EVERY or steps < session.config.steps / MOST_LOOKS
        if session.state != "running" or not early:
            self._ask()

    # --- the picture ----------------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        """Fetch what is chosen, off the widgets' thread: a network that trains answers between two steps."""
        session, number = self.desk.session, self.frame.value
        self.step.disabled = number > 0
        if session is None or not self._visible:
            return
        if session.state == "waiting":
            ui.say(self.note, f"Nothing can be predicted: {session.message}")
        elif session.state == "running" and not session.steps and not session.snapshots:
            ui.say(self.note, _WAITING)
        else:
            step = NOW if number else self.step.value
            self._looked = time.monotonic()
            if self.picture is None:
                ui.say(self.note, "Predicting.")
            self._latest.ask(lambda: self._fetch(session, number, step), self._take, self._refused)

    def _fetch(self, session: Session, number: int, step: int | str) -> Picture:
        config, frame = session.config, _frames(session)[number]
        known = self._targets.get((session, number))
        if known is None:
            batch = Batches([frame], config).frame(0)
            known = (batch.target[0] > 0, None if batch.mask is None else batch.mask[0])
            self._targets = {k: v for k, v in self._targets.items() if k == (session, 0)} | {(session, number): known}
        if number:
            fabric = make_fabric(config)
            batch = Batches([frame], config, fabric.device).frame(0)
            made, model = session.model()
            p = predict(model.to(fabric.device), batch, fabric, running_statistics=False)[0].cpu()  # as the snapshots are made
        else:
            kept, made = session.snapshots, session.steps_made if step == NOW else step
            if made in kept:
                p = kept[made]
            else:
                made, p = session.look()  # which may wait for a step
        return Picture(session, number, made, p, *known)

    def _take(self, picture: Picture) -> None:
        if picture.session is not self.desk.session:
            return
        if self.picture is None or self.picture.target is not picture.target:
            self._filling = True
            self.height.max = picture.target.shape[0] - 1
            self.height.value = int(picture.target.sum(dim=(1, 2)).argmax())
            self._filling = False
        self.picture = picture
        self._fill()
        self._draw()

    def _refused(self, error: Exception) -> None:
        if not isinstance(error, OcclabError):
            self.desk.fail(error)
        ui.say(self.note, f"This cannot be shown: {error}")

    def _draw(self) -> None:
        """The picture, at the present threshold."""
        picture = self.picture
        if picture is None or not self._visible:
            return
        grid, number = picture.session.config.grid, picture.frame
        self._body.layout.display = "flex"
        if self._view is None:
            self._dark = self.desk.dark
            self._view = VIEWS[self.drawn_by.value](grid, dark=self._dark, height=400)
            self._scene.children = (self._view.widget,)
        self._outcome = self._view.show(
            picture.p,
            picture.target,
            self.threshold.value,
            picture.mask,
            grid=grid,
            names=(f"after {picture.step} step{'s' * (picture.step != 1)}", "target"),
            shown=[k for k, box in self.legend.items() if box.value],
        )
        name = f"{self.desk.title}, {self.frame.options[number][0]}"
        only = "; predicted by the network as it stands, for earlier steps are kept of the first frame only" if number else ""
        ui.say(self.note, name + only)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # nobody to come back later
            self._draw_flat()
            return
        if self._flat_soon is None:
            self._flat_soon = loop.call_later(FLAT_AFTER, self.desk.post, self._draw_flat)

    def _draw_flat(self) -> None:
        """The histogram and the height, of the picture as it was drawn last."""
        self._flat_soon, picture = None, self.picture
        if picture is None or self._view is None or not self._visible:
            return
        if self._histogram is None:
            self._histogram, self._plan = Histogram(dark=self._dark), Slice(picture.session.config.grid, dark=self._dark)
            self._bars.children, self._plan_place.children = (self._histogram.widget,), (self._plan.widget,)
        if self._counted is picture:
            self._histogram.mark(self.threshold.value)
        else:
            self._counted = picture
            self._histogram.show(picture.p, picture.target, self.threshold.value, picture.mask)
        self._plan.show(self._outcome, self.height.value, picture.session.config.grid)

    def _swap(self) -> None:
        """Draw by something else. What drew is closed: a page has few WebGL contexts."""
        if self._view is None:
            return
        old, self._view, self._scene.children = self._view, None, ()
        old.close()
        try:
            self._draw()
        except OcclabError as error:  # it is there, and cannot be imported
            self.drawn_by.value = next(iter(VIEWS))
            self._draw()
            self.desk.fail(error)

    def _see(self, turn: Callable[[VolumeView | K3dView], Any]) -> None:
        if self._view is not None:
            turn(self._view)

    def _paint(self) -> None:
        if self._view is not None and self._visible and self._dark != self.desk.dark:
            self._dark = self.desk.dark
            for view in filter(None, (self._view, self._histogram, self._plan)):
                view.paint(self._dark)


def _frames(session: Session) -> tuple[Frame, ...]:
    return (*session.frames, *session.held_out)
