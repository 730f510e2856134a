"""What a training gets to see: simulated streets, the sample frames, or a folder."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import ipywidgets as widgets

from ..alignment import Alignment, check_alignment
from ..errors import OcclabError
from ..frames import Frame, guess
from ..frames.catalogue import SAMPLES
from ..settings import Profile, home, real_data
from ..training import split_frames
from . import ui
from .desk import Desk
from .picker import FolderPicker

STREETS, SAMPLE, FOLDER = "simulated streets", "sample frames", "a folder"
ALIGNED = 3
"""Frames whose alignment is looked at; each takes about a second."""

Split = tuple[list[Frame], list[Frame]]
Job = Callable[[Callable[[str], None], Callable[[], bool]], Split]
"""Takes what says how far it is, and what tells whether its answer is still wanted."""


class DataChoice:
    """Chooses the desk's frames. Reading, simulating and checking them happens on other threads.

    Args:
        size: how many frames are wanted; see :meth:`want`.
    """

    def __init__(self, desk: Desk, size: Profile) -> None:
        self.desk, self.size = desk, size
        self._kind = widgets.ToggleButtons(
            options=[("streets", STREETS), ("samples", SAMPLE), ("folder", FOLDER)],
            value=None,
            tooltips=[
                "Streets made here, each a place of its own; the first time takes a while",
                "Four of these streets that ship with occlab: ready at once",
                "Frames or point clouds of your own",
            ],
            style={"button_width": "auto"},
        )
        self._kind.observe(self._chosen, names="value")
        self._note, self._found = ui.note(), widgets.HTML()
        self._more = ui.button("", "Make the streets that are wanting; those that are there are read back", self._take_streets)
        self._use = ui.button("use this folder", "Read the frames of the folder that is open", self._take_folder)
        self._picker: FolderPicker | None = None
        self._place = ui.column()
        self._asked = 0
        """Counts what was asked for: an answer that comes after the next question is dropped."""
        self.widget = ui.column(ui.heading("data"), self._kind, self._place, self._note, self._more, self._found)
        self._said: Sequence[Frame] = ()
        """The frames that the note speaks of."""
        desk.on("setup", self._heard)
        self._heard()

    def begin(self) -> None:
        """Frames for a desk that has none: the streets where they are on the disk already, else the sample frames."""
        if self.desk.frames:
            return
        made = _are_made(_count(self.size))
        self._kind.value = STREETS if made or not SAMPLES.is_dir() else SAMPLE

    def want(self, size: Profile) -> None:
        """Say how many frames the set-up wants. Those at hand stay; more streets are offered."""
        self.size = size
        self._offer()

    def _chosen(self, change: dict) -> None:
        self._place.children = ()
        if change["new"] == STREETS:
            self._take_streets()
        elif change["new"] == SAMPLE:
            size = self.size
            self._read(lambda *_: split_frames(SAMPLES, size), SAMPLE, "reading the sample frames")
        elif change["new"] == FOLDER:
            self._asked += 1  # what is being read is no longer wanted, and its answer will not free these
            self._hold(False)
            self._show_picker()

    # --- simulated streets ------------------------------------------------------------------------------------------

    def _take_streets(self) -> None:
        size, count = self.size, _count(self.size)

        def job(say: Callable[[str], None], wanted: Callable[[], bool]) -> Split:
            if not _are_made(count):
                with closing(make_streets(count)) as made:
                    for done, missing in made:
                        say(f"making streets: {done} of {missing} done; they are kept for the next time")
                        if not wanted():
                            break
            return split_frames(None, size) if wanted() else ([], [])

        self._read(job, STREETS, f"reading {count} streets")

    # --- a folder ---------------------------------------------------------------------------------------------------

    def _show_picker(self) -> None:
        if self._picker is None:
            start, said = Path.home(), ""
            try:
                start = real_data() or (SAMPLES if SAMPLES.is_dir() else start)
            except OcclabError as error:
                said = str(error)
            self._picker = FolderPicker(start, _what, run=self._ask, rows=5)
            self._found.value = ui.error_card(said) if said else ""
        ui.say(self._note, f"in use: {self.desk.source or 'no frames yet'}")
        self._place.children = (self._picker.widget, self._use)

    def _ask(self, job: Callable[[], str], then: Callable[[str], None]) -> None:
        self.desk.work(job, then, lambda error: then(_sentence(error)), what="what a folder holds")

    def _take_folder(self) -> None:
        path, size = self._picker.path, self.size
        self._read(lambda *_: split_frames(path, size), f"folder {path.name}", f"reading {path.name}", check=True)

    def _hold(self, reading: bool) -> None:
        """Nothing more is asked for while something is read."""
        self._use.disabled = self._more.disabled = reading

    # --- reading, on another thread ---------------------------------------------------------------------------------

    def _read(self, job: Job, source: str, what: str, *, check: bool = False) -> None:
        """Have frames read, say so meanwhile, and put them on the desk unless something else was asked for since, or the
        workbench was closed."""
        self._asked += 1
        asked = self._asked
        ui.say(self._note, f"{what} ...")
        self._found.value = ""
        self._hold(True)

        def wanted() -> bool:
            return self._asked == asked and not self.desk.closed

        def now(call: Callable[[], None]) -> None:
            if wanted():
                call()

        def done(split: Split) -> None:
            self._hold(False)
            frames, held_out = split
            self._said = ()
            self.desk.set_up(frames=frames, held_out=held_out, source=source)
            if check:
                self._check(frames[:ALIGNED], now)

        def failed(error: Exception) -> None:
            self._hold(False)
            ui.say(self._note, f"still in use: {self.desk.source or 'no frames'}")
            self._found.value = ui.error_card(_sentence(error))

        self.desk.work(
            lambda: job(lambda text: self.desk.post(lambda: now(lambda: ui.say(self._note, text))), wanted),
            lambda split: now(lambda: done(split)),
            lambda error: now(lambda: failed(error)),
            what=what,
        )

    def _check(self, frames: Sequence[Frame], now: Callable[[Callable[[], None]], None]) -> None:
        """Does the input lie where the target does? Asked of every folder: what is misplaced trains, and learns little."""
        self._found.value = ui.card("Alignment:", f"looking at {len(frames)} of the frames ...")
        self.desk.work(
            lambda: check_alignment(frames),
            lambda found: now(lambda: setattr(self._found, "value", alignment_card(found))),
            lambda error: now(lambda: setattr(self._found, "value", ui.error_card(_sentence(error)))),
            what="alignment of the frames",
        )

    def _heard(self) -> None:
        desk = self.desk
        if desk.frames and desk.frames is not self._said:
            self._said = desk.frames
            ui.say(self._note, f"{desk.source}: {len(desk.frames)} to train on, {len(desk.held_out)} held out")
        self._offer()

    def _offer(self) -> None:
        """A button for more streets, where the set-up wants more than there are."""
        wanted, there = _count(self.size), len(self.desk.frames) + len(self.desk.held_out)
        few = self.desk.source in (STREETS, SAMPLE) and there < wanted
        self._more.layout.display = "" if few else "none"
        if few:
            self._more.description = f"take {wanted} streets, as this set-up wants"


def alignment_card(found: Alignment) -> str:
    """HTML of a card: what the gate found, escaped."""
    if found.ok:
        return ui.card("Alignment: ok.", f"The input's IoU with its target is {found.iou:.3f}.", "good")
    return ui.card("Alignment: not ok.", " ".join(f"{sentence}." for sentence in found.findings), "warn")


def make_streets(count: int) -> Iterator[tuple[int, int]]:
    """Have simulated streets made and kept, by a process of its own: how many are done, of how many that were missing.

    In this process the simulation would take turns with the page, and its progress bar would be drawn into a notebook's cell.

    Raises:
        OcclabError: the simulation failed; its own sentence.
    """
    code = "import sys; from occlab.frames import streets; streets(int(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(count)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        last = ""
        try:
            for line in process.stderr:  # the bar's lines end with a carriage return
                last = line.strip() or last
                if done := re.search(r" (\d+)/(\d+) \[", line):
                    yield int(done[1]), int(done[2])
        except GeneratorExit:  # nobody waits for it any more; at most one street is lost
            process.kill()
            raise
    if process.returncode:
        raise OcclabError(last.removeprefix("occlab.errors.OcclabError: ") or "the simulation of streets ended early")


def _are_made(count: int) -> bool:
    """Whether so many streets lie on the disk; of an older simulator perhaps, and then they are made anew when read."""
    return any(len(list(folder.glob("*.npz"))) >= count for folder in (home() / "frames").glob("streets-*"))


def _count(size: Profile) -> int:
    return size.train_frames + size.held_out_frames


def _what(folder: Path) -> str:
    found = guess(folder)
    return found.what + ("" if found.count is None else f", {found.count:,} in all")


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, OcclabError) else f"{type(error).__name__}: {error}"
