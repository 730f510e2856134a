"""The Diagnose tab: one button runs the doctor on the training in hand. It reads other people's logs too."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import torch

from ..diagnosis import Finding, Report, Trial, diagnose, diagnose_log, find_logs, read_log
from ..diagnosis.command import _others
from ..diagnosis.report import as_html, wording
from ..errors import OcclabError
from ..files import typed_path
from ..training import Batches, TrainConfig, load_run
from ..training.optimizer import make_optimizer
from . import ui
from .desk import Desk
from .open_run import BUILDING
from .picker import FolderPicker
from .session import Session

LOSSES = {"as the log says": None, "BCE": "bce", "BCE + Dice": "bce+dice", "focal": "focal", "Dice": "dice"}
"""Losses by which the plateau of a log can be read."""


def examine(session: Session) -> tuple[int, Report]:
    """The doctor on a session's network as it stands, with its first batch, its loss, its optimiser and its clipping. It takes
    seconds, or a minute where every check is made.

    Returns:
        after how many steps the network stands, and the report.

    Raises:
        OcclabError: a damaged checkpoint, or a network that does not run.
    """
    config, (step, model) = session.config, session.model()
    rate = session.learning_rate
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, batch = model.to(device), Batches(session.frames, config, device)[0]
    optimizer = make_optimizer(model, config)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_mult"]
    loss = config.loss if batch.mask is None else lambda logits, target: config.loss(logits, target, batch.mask)
    with BUILDING:  # the doctor draws from the process's one generator, as does a network that is built meanwhile
        known = {"optimizer": optimizer, "mask": batch.mask, "clip_norm": config.clip_norm}
        return step, diagnose(model, (batch.features, batch.target), loss, **known)


def examine_log(path: Path, **known: Any) -> Report:
    """The doctor on a log, or on the newest in a folder, beside the other runs there.

    Args:
        known: what is known besides; see :func:`occlab.diagnosis.diagnose_log`.

    Raises:
        OcclabError: no log there, none that can be read, or numbers out of their range.
    """
    log = read_log(path)
    return diagnose_log(log, others=_others(path, log) if path.is_dir() else (), **known)


def known_of(config: TrainConfig, summary: dict[str, Any] | None) -> dict[str, Any]:
    """What a run of ours knows beside its log: its loss, where that is one of :data:`LOSSES`, and the share of occupied cells
    once it is finished."""
    loss, share = config.loss, (summary or {}).get("occupied_share")
    if share is None or loss != type(loss)(bce=1.0, dice=loss.dice):
        return {}
    return {"positive_rate": share, "loss": "bce"} | ({"loss": "bce+dice", "dice_weight": loss.dice} if loss.dice else {})


class Diagnose:
    """The tab. A training that runs is paused while the doctor looks at its network, and goes on after."""

    def __init__(self, desk: Desk) -> None:
        self._desk, self._busy, self._visible = desk, "", False
        self.report: Report | None = None
        self.trials: list[Trial] = []
        """Experiments of the report that were run."""
        wide = {"description_width": "initial"}
        tooltip = "The network as it stands: every check, on copies, and one cause. A training that runs is paused meanwhile"
        self.network = ui.button("diagnose the training", tooltip, self._examine, main=True)
        self.log = ui.button("only its log", "What the log alone says, without the network", self._examine_log)
        self.path = widgets.Text(
            description="or a log",
            style=wide,
            layout={"width": "430px"},
            continuous_update=False,
            placeholder="a file, or a folder with logs in it",
            tooltip="Somebody's training log: of mmengine, mmcv, Lightning or TensorBoard, or text",
        )
        self.browse = widgets.ToggleButton(
            False, description="browse", tooltip="Click through folders to it", layout={"width": "auto", "min_width": "64px"}
        )
        self.rate = widgets.Text(
            description="occupied, %",
            style=wide,
            layout={"width": "170px"},
            continuous_update=False,
            placeholder="unknown",
            tooltip="Share of occupied cells among those that count in the loss: with it and the loss the floors are known",
        )
        self.loss = widgets.Dropdown(
            options=list(LOSSES),
            description="loss",
            style=wide,
            layout={"width": "180px"},
            tooltip="By which the plateau of the log is read",
        )
        self.read = ui.button("read it", "What this log says, and what it cannot say", self._read)
        self.picker: FolderPicker | None = None
        self._take = ui.button("take this folder", "Put it into the field above", self._took)
        self._place = ui.column(display="none")
        self._note, self._refusal, self._of = ui.note(quiet=True), widgets.HTML(), ui.note()
        self.experiments, self._tried, self._cards = ui.row(), widgets.HTML(), widgets.HTML()
        self.widget = ui.column(
            ui.row(self.network, self.log, self._note),
            ui.row(self.path, self.browse, self.rate, self.loss, self.read),
            self._place,
            self._refusal,
            ui.row(self._of, self.experiments),
            self._tried,
            self._cards,
        )
        self.browse.observe(lambda change: self._browse(change["new"]), names="value")
        for event in ("session", "progress"):
            desk.on(event, self._allow)
        self._allow()

    def show(self) -> None:
        """The tab was opened."""
        self._visible = True
        self._allow()

    def hide(self) -> None:
        """Another tab was opened."""
        self._visible = False

    def _allow(self) -> None:
        session = self._desk.session
        self.network.disabled = bool(self._busy) or session is None
        self.log.disabled = bool(self._busy) or session is None or not session.steps
        self.read.disabled = bool(self._busy)
        for button in self.experiments.children:
            button.disabled = bool(self._busy)
        if self._busy:
            ui.say(self._note, self._busy)
        elif session is None:
            ui.say(self._note, "No training is in hand: start one under Set up, or read a log.")
        elif self._visible:
            paused = " It is paused while the doctor looks, and goes on after." if session.state == "running" else ""
            ui.say(self._note, f"{session.name}, after {_steps(session.steps_made)}.{paused}")

    # --- the training in hand ---------------------------------------------------------------------------------------

    def _examine(self) -> None:
        session = self._desk.session
        doing = f"Examining the network of {session.name}: some seconds, or a minute where nothing fails at once."
        self._clear()

        def reported(found: tuple[int, Report]) -> None:
            step, report = found
            ui.say(self._of, f"Of the network of {session.name}, after {_steps(step)}:")
            self._reported(report)

        self._work(lambda: examine(session), reported, doing, session)

    def _examine_log(self) -> None:
        session = self._desk.session
        folder, config = session.folder, session.config
        self._clear()
        ui.say(self._of, f"Of the log of {session.name}:")
        job = lambda: examine_log(folder, **known_of(config, load_run(folder).summary))  # noqa: E731
        self._work(job, self._reported, f"Reading the log of {session.name}.")

    def _try(self, finding: Finding) -> None:
        experiment = finding.next_experiment

        def job() -> Trial:
            with BUILDING:
                return Trial(experiment, *experiment.run())

        self._work(job, self._tried_one, f"{wording.clean(experiment.change)}: measuring.", self._desk.session)

    def _work(self, job: Callable[[], Any], then: Callable[[Any], Any], doing: str, session: Session | None = None) -> None:
        """Have it done in the background, and the session paused meanwhile: the cores are few."""
        give_back = session.hold() if session is not None and session.state == "running" else None
        self._refusal.value = ""
        self._busy = doing + (" The training is paused, and goes on after." if give_back else "")

        def end(tell: Callable[[Any], Any], result: Any) -> None:
            self._busy = ""
            if give_back is not None:
                give_back()
            self._allow()
            tell(result)

        self._allow()
        self._desk.work(job, partial(end, then), partial(end, self._refused), what="the doctor")

    # --- somebody's log ---------------------------------------------------------------------------------------------

    def _browse(self, wanted: bool) -> None:
        if wanted and self.picker is None:
            run = partial(self._desk.work, what="looking for logs")
            self.picker = FolderPicker(Path.cwd(), _logs_in, run=run, rows=6)
            self._place.children = (self.picker.widget, ui.row(self._take))
        self._place.layout.display = "flex" if wanted else "none"

    def _took(self) -> None:
        self.path.value = str(self.picker.path)
        self.browse.value = False

    def _read(self) -> None:
        path, loss = self.path.value.strip(), LOSSES[self.loss.value]
        try:
            known = {} if loss is None else {"loss": loss}
            known |= {"positive_rate": _share(self.rate.value)} if self.rate.value.strip() else {}
            if not path:
                raise OcclabError("name a log, or a folder with logs in it")
        except OcclabError as error:
            self._refused(error)
            return
        self._clear()
        ui.say(self._of, f"Of {path}:")
        self._work(lambda: examine_log(typed_path(path), **known), self._reported, f"Reading {path}.")

    # --- what comes out ---------------------------------------------------------------------------------------------

    def _clear(self) -> None:
        self.report, self.trials = None, []
        self._tried.value = self._cards.value = ""
        ui.say(self._of, "")
        self._offer(())

    def _offer(self, buttons: Sequence[widgets.Button]) -> None:
        """Buttons of experiments. Those before are closed: each holds the networks of its finding."""
        before, self.experiments.children = self.experiments.children, buttons
        for old in before:
            ui.discard(old)

    def _reported(self, report: Report) -> None:
        self.report = report
        alarms = [finding for finding in report.findings if finding.alarming and finding.next_experiment]
        buttons = [
            ui.button(
                f"try: {wording.clean(finding.next_experiment.change, 70)}",
                f"{finding.id}: {wording.clean(finding.next_experiment, 400)}",
                partial(self._try, finding),
            )
            for finding in alarms
            if finding.next_experiment.run is not None
        ]
        self._offer(buttons)
        self._cards.value = as_html(report)

    def _tried_one(self, trial: Trial) -> None:
        self.trials = [*(other for other in self.trials if other.experiment != trial.experiment), trial]
        cards = [ui.card("Tried.", wording.clean(one, 600), "good" if one.held else "warn") for one in self.trials]
        self._tried.value = "".join(cards)

    def _refused(self, error: Exception) -> None:
        if not isinstance(error, OcclabError):
            self._desk.fail(error)
            return
        self._refusal.value = ui.card("", f"{wording.clean(error)}.", "warn")
        if self.report is None:
            ui.say(self._of, "")


def _steps(number: int) -> str:
    return f"{number} step{'s' * (number != 1)}"


def _logs_in(folder: Path) -> str:
    logs = find_logs(folder)
    return f"{len(logs)} log{'s' * (len(logs) != 1)}, the newest {logs[0].name}" if logs else "no log that is known by its name"


def _share(percent: str) -> float:
    try:
        return float(percent.strip().removesuffix("%")) / 100
    except ValueError:
        raise OcclabError(f"occupied must be a number of percent, or left empty, got {percent!r}") from None
