"""A run that is made one step at a time, in its folder: what a session steers, without threads.

The folder is written line for line as :func:`occlab.training.train` does, and each goes on with what the other left.
"""

import ctypes
import gc
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import torch
from torch import Tensor

from ..errors import OcclabError
from ..models import OccupancyUNet
from ..training import Batch, Batches, Step, build_model, load_run, make_fabric, predict, training_steps
from ..training.augmentation import STILL, Movement
from ..training.checkpoint import load_checkpoint, load_tensors, save_checkpoint, save_tensors
from ..training.optimizer import learning_rate, make_optimizer
from ..training.run import CHECKPOINT_EVERY, _repair_log, _to_row, _write_json
from ..training.summary import summarize
from .run_folder import Plan, checkpoint_step, hold, link, rates_by_hand, release, snapshot_paths

QUICK_SAVE = 0.5
"""Seconds that a checkpoint on leaving may take; a network too large for that repeats the steps since its last one."""

BUILDING = threading.Lock()
"""Held by whoever draws from the process's one random generator: initial weights, and the doctor."""


class Snapshots(Mapping[int, Tensor]):
    """Probabilities (Z, Y, X) by step, to 1/256; kept as bytes, and computed when asked for."""

    def __init__(self, bins: Mapping[int, Tensor]) -> None:
        self._bins = {step: bins[step] for step in sorted(bins)}

    def __getitem__(self, step: int) -> Tensor:
        return (self._bins[step].float() + 0.5) / 256

    def __iter__(self) -> Iterator[int]:
        return iter(self._bins)

    def __len__(self) -> int:
        return len(self._bins)


class OpenRun:
    """One training in one folder. Not for two threads at a time, but for :attr:`steps`, :attr:`bins` and :attr:`rates`,
    which may be read from any.

    Args:
        check: called before every frame that is used; what it raises ends a step or an evaluation early.
    """

    def __init__(self, plan: Plan, folder: Path, check: Callable[[], None] = lambda: None) -> None:
        self.plan, self.folder, self._check = plan, folder, check
        self.steps: list[Step] = []
        """The steps in the log."""
        self.made = 0
        """The number of updates in the weights: less than the log holds while a killed run repeats its last steps."""
        self.saved = 0
        """The number of updates in the checkpoint."""
        self.bins: dict[int, Tensor] = {}
        """Snapshots by step: probabilities (Z, Y, X) in 256 bins, uint8."""
        self.rates: dict[int, float] = {}
        """Learning rates set by hand, by the number of updates made before."""
        self.finished = False
        self.model: OccupancyUNet | None = None
        self._lock: TextIO | None = None
        self._log: TextIO | None = None
        self._save_seconds = 0.0

    def open(self) -> None:
        """Take the folder, so that nobody else trains in it, and read it.

        Raises:
            TakenError: somebody trains in it.
            OcclabError: a damaged file in it, by name.
        """
        self._lock = hold(self.folder)
        self.finished = (self.folder / "summary.json").exists()
        if self.folder == self.plan.folder and not self.finished:
            self.plan.describe(self.folder, {})
        self.read()

    def read(self) -> None:
        """What lies in the folder: the log, the snapshots and the rates set by hand."""
        run = load_run(self.folder)
        self.steps, self.finished = run.steps, run.summary is not None
        self.made = self.saved = checkpoint_step(self.folder)
        self.bins = {int(path.stem): load_tensors(path)[0]["p_bins"] for path in snapshot_paths(self.folder)}
        self.rates = rates_by_hand(self.folder / "config.json")

    def load(self) -> None:
        """The network as the checkpoint has it, else with its initial weights."""
        config = self.plan.config
        self._fabric = make_fabric(config)
        self._batches = _CheckedBatches(self.plan.frames, config, self._fabric.device)
        self._batches.check = self._check
        while not BUILDING.acquire(timeout=0.1):
            self._check()
        try:
            model = build_model(config, self._batches)
        finally:
            BUILDING.release()
        self.model = model.to(self._fabric.device)
        self._optimizer = make_optimizer(self.model, config)
        checkpoint = self.folder / "checkpoint.safetensors"
        self.made = load_checkpoint(checkpoint, self.model, self._optimizer) if checkpoint.exists() else 0
        values = sum(parameter.numel() for parameter in self.model.parameters())
        self.saved, self._save_seconds = self.made, 12e-6 * values / 20  # until one is timed: 20 MB/s, 12 bytes a weight

    def prepare(self) -> None:
        """Everything that the next step needs; the folder must be open."""
        self.load()
        log = self.folder / "scalars.json"
        self.steps = _repair_log(log)
        if [s.step for s in self.steps] != list(range(1, len(self.steps) + 1)) or len(self.steps) < self.made:
            raise OcclabError(
                f"{log}: expected every step from 1 to at least {self.made}, which the checkpoint has made; "
                "reset the run to train it again"
            )
        self._log = log.open("a", encoding="utf-8")
        if self.made == 0 and 0 in self.plan.config.snapshot_steps:
            self.look()
        self._running = training_steps(
            self.model,
            self._batches,
            self.plan.config,
            optimizer=self._optimizer,
            start=self.made,
            fabric=self._fabric,
            rate=self.rate,
        )

    def rate(self, number: int) -> float:
        """The base learning rate of step number ``number``, from 0."""
        moved = [after for after in self.rates if after <= number]
        if moved:
            return self.rates[max(moved)]
        return learning_rate(self.plan.config, min(number, self.plan.config.steps - 1))

    @property
    def remaining_seconds(self) -> float | None:
        """What the steps that are left will take, by the last twenty; None before the first."""
        last = [step.seconds for step in self.steps[-20:]]
        return (self.plan.config.steps - self.made) * sum(last) / len(last) if last else None

    def make_step(self) -> Step:
        """One step of training, logged, with a snapshot and a checkpoint where they are due."""
        step = next(self._running)
        self.made = step.step
        if step.step > len(self.steps):
            self._log.write(json.dumps(_to_row(step)) + "\n")
            self._log.flush()
            self.steps.append(step)
        if step.step in self.plan.config.snapshot_steps:
            self.look()
        if step.step % CHECKPOINT_EVERY == 0 or step.step == self.plan.config.steps:
            self.save()
        return step

    def look(self) -> tuple[int, Tensor]:
        """The predicted volume of the first frame now, kept as a snapshot: step and bins (Z, Y, X), uint8."""
        p = predict(self.model, self._batches.frame(0), self._fabric, running_statistics=False)[0]
        bins = (torch.ceil(p * 256) - 1).clamp_(min=0).to(torch.uint8).cpu()
        if self._lock is not None:
            (self.folder / "snapshots").mkdir(exist_ok=True)
            save_tensors(self.folder / "snapshots" / f"{self.made:06d}.safetensors", {"p_bins": bins})
        self.bins[self.made] = bins
        return self.made, bins

    def move_rate(self, rate: float) -> None:
        """Let the base learning rate be this from the next step on, in place of the schedule."""
        if rate == self.rate(self.made):
            return
        rates = {after: value for after, value in self.rates.items() if after < self.made} | {self.made: rate}
        if not self.rates or len(self.steps) > self.made:  # what the log holds beyond here was made at another rate
            self._branch(rates)
        else:
            self.plan.describe(self.folder, rates)
        self.rates = rates

    def _branch(self, rates: Mapping[int, float]) -> None:
        """Go on in a new folder, which begins as a copy of this one up to the present step."""
        folder = self.plan.new_folder()
        lock = hold(folder)
        try:
            steps = self.steps[: self.made]
            log = (folder / "scalars.json").open("w", encoding="utf-8")
            log.writelines(json.dumps(_to_row(step)) + "\n" for step in steps)
            log.flush()
            checkpoint = self.folder / "checkpoint.safetensors"
            for path in [checkpoint, *(path for path in snapshot_paths(self.folder) if int(path.stem) <= self.made)]:
                if path.exists():
                    link(path, folder / path.relative_to(self.folder))
            self.plan.describe(folder, rates)  # last: before it the folder is no run
        except BaseException:
            release(lock)
            raise
        self._log.close()
        release(self._lock)
        self.folder, self.steps, self._log, self._lock = folder, steps, log, lock
        self.bins = {step: bins for step, bins in self.bins.items() if step <= self.made}

    def save(self) -> None:
        began = time.monotonic()
        os.fsync(self._log.fileno())  # the log is never behind the checkpoint, not even after a power cut
        save_checkpoint(self.folder / "checkpoint.safetensors", self.model, self._optimizer, self.made)
        self.saved, self._save_seconds = self.made, time.monotonic() - began

    def leave(self) -> None:
        """A checkpoint at the present step, where that is quick; else the next start repeats what came after the last."""
        if self._log is not None and self.made > self.saved and self._save_seconds < QUICK_SAVE:
            self.save()

    def finish(self) -> None:
        """What came out, as ``summary.json``."""
        config, device = self.plan.config, self._fabric.device
        held_out = None
        if self.plan.held_out:
            held_out = _CheckedBatches(self.plan.held_out, config, device)
            held_out.check = self._check
        value = summarize(config, self.steps, self.model, self._batches, held_out, self._fabric)
        _write_json(self.folder / "summary.json", value)
        self.finished = True

    def close(self) -> None:
        """Let go of the folder and of the network; the steps and snapshots stay readable."""
        self.model = self._optimizer = self._batches = self._running = self._fabric = None
        self.made = self.saved  # updates that no checkpoint has are gone with the network
        log, lock, self._log, self._lock = self._log, self._lock, None, None
        try:
            if log is not None:
                log.close()
        finally:  # a log that a full disk does not let close must not keep the folder taken
            if lock is not None:
                release(lock)


class _CheckedBatches(Batches):
    """Batches that can be interrupted between two frames."""

    check: Callable[[], None]

    def frame(self, i: int, movement: Movement = STILL) -> Batch:
        self.check()
        return super().frame(i, movement)


def free_memory() -> None:
    """Give back what a closed run has held; for the thread that made it."""
    gc.collect()  # network and optimiser hold each other, and would stay until the collector happens to come by
    with suppress(OSError, AttributeError, TypeError):  # glibc alone keeps for a thread what the thread has freed
        ctypes.CDLL(None).malloc_trim(0)
