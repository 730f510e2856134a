"""Runs as a plain table: each named by what it does differently from the training as it stood, and grouped over its seeds."""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from statistics import mode
from textwrap import shorten
from typing import Any

import numpy as np

from ..ablation import Arm, Comparison, compare, corrected
from ..ablation.changes import setting_names
from ..ablation.rows import Row, Task, done_row, failed_row
from ..diagnosis import HALF
from ..errors import OcclabError
from ..settings import PROFILES
from ..training import Run, Step, TrainConfig, preset
from ..training.run import _read_json
from .knobs import KNOBS, PRESETS, choices_of, turned
from .run_folder import rates_by_hand

SIZE = {
    *("grid point cloud range", "grid voxel size", "in channels", "out channels", "width", "steps", "batch size", "precision"),
    *("snapshot steps", "seed"),
}
"""Labels of settings that say how large a run is, not what is tried in it."""

MEASURES = {"held_out_iou": "IoU, held out", "training_iou": "IoU, training", "floor_distance": "loss over its p = 1/2, less 1"}
"""By which runs are compared, in words; of the last one lower is better. It relates each loss to its own floor, so that
losses of different kinds can be compared."""

CURVES = {"loss": "loss", "iou": "IoU of the batch", "grad_norm": "gradient norm"}

MOST_WORDS = 4
"""Settings in a name; the others are counted."""

_WORDS: dict[str, str] = {}  # of configurations met before: a list of runs is read often, and finding them takes milliseconds


@dataclass(frozen=True)
class RunRow:
    """One run, as the table shows it. None stands for what a run has not, as one that is not finished has no settled loss."""

    run: Run
    name: str
    """Its configuration in words: the same for all seeds of it, and another one for every other."""
    data: str
    """Fingerprints of the frames; runs with different ones cannot be compared."""
    identity: str
    """The run's hash."""
    number: int = 1
    """Which run of this configuration and seed it is; there is a second one where a run was reset or continued by hand."""

    @property
    def folder(self) -> Path:
        return self.run.folder

    @property
    def seed(self) -> int:
        return self.run.config.seed

    @property
    def steps(self) -> int:
        return len(self.run.steps)

    @property
    def state(self) -> str:
        return "begun" if self.run.summary is None else "finished"

    @property
    def label(self) -> str:
        """Name, seed and state, for a list to choose from: another one for every run."""
        state = ", not finished" if self.run.summary is None else ""
        number = f", run {self.number}" if self.number > 1 else ""
        return f"{self.name} \N{MIDDLE DOT} seed {self.seed}{number}{state}"

    @property
    def settled_loss(self) -> float | None:
        return self._number("settled_loss")

    @property
    def floor(self) -> float | None:
        """The rung of the ladder that the loss has stopped on; None where it stopped on none, or on one that is none for this
        head: what cannot be said below 1/2 is no limit of an output that can."""
        rectified = self.run.config.model.head == "rectified"
        reachable = rectified or not self.floor_name.endswith("p >= 1/2")
        return self._number("floor") if self._said("on_floor") is True and reachable else None

    @property
    def floor_name(self) -> str:
        return str(self._said("floor_name") or "")

    @property
    def half(self) -> float | None:
        """The run's own loss at p = 1/2 everywhere."""
        return self._number("ladder", HALF)

    @property
    def floor_distance(self) -> float | None:
        return None if self.settled_loss is None or not self.half else self.settled_loss / self.half - 1

    @property
    def held_out_iou(self) -> float | None:
        return self._number("held_out", "batch_statistics", "iou")

    @property
    def training_iou(self) -> float | None:
        return self._number("training", "iou")

    def _number(self, *path: str) -> float | None:
        """A number of the summary; None where there is none, also in a summary that somebody wrote by hand."""
        value = self._said(*path)
        return float(value) if isinstance(value, int | float) and np.isfinite(value) else None

    def _said(self, *path: str) -> Any:
        value: Any = self.run.summary
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return value


def table(runs: Sequence[Run]) -> list[RunRow]:
    """A row a run, in the order given, the latest first. What is unusual about a run's size, among these runs, is part of its
    name; where two configurations would be called the same, the later one gets a number."""
    sizes = [_size(run.config) for run in runs]
    usual = {part: mode(size[part] for size in sizes) for part in (sizes[0] if sizes else ())}
    names: dict[tuple[str, ...], str] = {}
    rows: list[RunRow] = []
    for run, size in zip(reversed(runs), reversed(sizes), strict=True):  # a name stays when runs are added
        try:
            data, by_hand, identity = _stored(run.folder)
        except OcclabError:  # removed since it was read
            continue
        like = repr(replace(run.config, seed=0, snapshot_steps=()))
        if like not in _WORDS:
            _WORDS[like] = in_words(run.config)
        if (like, data, by_hand) not in names:
            odd = [size[part] for part in usual if size[part] != usual[part]]
            name = ", ".join([_WORDS[like], *odd, *(["rate moved by hand"] if by_hand else [])])
            taken = sum(other == name or other.startswith(f"{name} (") for other in names.values())
            names[like, data, by_hand] = f"{name} ({taken + 1})" if taken else name
        name = names[like, data, by_hand]
        number = 1 + sum((row.name, row.seed) == (name, run.config.seed) for row in rows)
        rows.append(RunRow(run, name, data, identity, number))
    return rows[::-1]


def in_words(config: TrainConfig) -> str:
    """What a configuration does differently from the training as it stood, whatever its size, in the words of Set up.

    >>> in_words(TrainConfig(learning_rate=1e-3, clip_norm=None))
    'learning rate 1e-3, clipping norm none'
    """
    changes = _changes(config)
    if len(changes) > MOST_WORDS + 1:
        size = replace(PROFILES["small"], steps=config.steps)
        for name, known in PRESETS.items():
            with suppress(OcclabError):  # a warm-up may be longer than this run
                if changes == _changes(turned(preset(known.start, size), known.choices)):
                    return name
    words = [_phrase(label, value) for label, value in changes.items()]
    if len(words) > MOST_WORDS + 1:
        words[MOST_WORDS:] = [f"{len(words) - MOST_WORDS} more"]
    return ", ".join(words) or "as it stood"


def _changes(config: TrainConfig) -> dict[str, Any]:
    ours, standing = settings([config, TrainConfig()])
    return {label: value for label, value in ours.items() if label not in SIZE and value != standing[label]}


def settings(configs: Sequence[TrainConfig]) -> list[dict[str, Any]]:
    """A dict a configuration, all with the same keys: the knobs of Set up with their levels, and by its own name every setting
    that has no knob, or of which one configuration has a value that is no level of its knob."""
    choices = [choices_of(config) for config in configs]
    knobs = [knob for knob in KNOBS if all(knob.label in chosen for chosen in choices)]
    covered = {name for knob in knobs for name in (knob.setting, *next(iter(knob.levels.values()), ()))}
    names = [name for name in setting_names(TrainConfig()) if name not in {*covered, "model", "grid", "loss"}]
    return [
        {knob.label: chosen[knob.label] for knob in knobs}
        | {name.removeprefix("model.").replace(".", " ").replace("_", " "): _plain(_value(config, name)) for name in names}
        for config, chosen in zip(configs, choices, strict=True)
    ]


def configurations(rows: Iterable[RunRow]) -> dict[str, list[RunRow]]:
    """Name -> its runs, one a seed, in the order of the seeds. Of two runs with one seed the finished one counts, then the
    first."""
    groups: dict[str, dict[int, RunRow]] = {}
    for row in rows:
        seeds = groups.setdefault(row.name, {})
        if row.seed not in seeds or (seeds[row.seed].run.summary is None and row.run.summary is not None):
            seeds[row.seed] = row
    return {name: [seeds[seed] for seed in sorted(seeds)] for name, seeds in groups.items()}


def curves(rows: Sequence[RunRow], what: str, live: Mapping[Path, Sequence[Step]] | None = None) -> dict[str, Any]:
    """Name -> (steps, values), (S,) of a configuration with one run, (seeds, S) of one with several, as far as all of them got.

    Args:
        what: one of :data:`CURVES`.
        live: steps of runs that are being trained, by folder.
    """
    found = {}
    for name, of_seeds in configurations(rows).items():
        lines = [[getattr(step, what) for step in (live or {}).get(row.folder, row.run.steps)] for row in of_seeds]
        length = min(map(len, lines))
        values = np.array([line[:length] for line in lines])
        found[name] = (np.arange(1, length + 1), values[0] if len(values) == 1 else values)
    return found


def floors(rows: Sequence[RunRow], among: Sequence[RunRow] = ()) -> dict[str, float]:
    """Label -> loss of each run at p = 1/2 everywhere, and of the floor it stopped on, where that is another one.

    Args:
        among: finished runs, one of which may have the floors of a run that is not: those of a loss depend on its targets only.
    """
    found: dict[str, dict[str, float]] = {}  # floor -> whose -> value
    for row in rows:
        like = (row.run.config.loss, row.run.config.targets, row.run.config.grid, row.data)
        known = [row, *(r for r in among if like == (r.run.config.loss, r.run.config.targets, r.run.config.grid, r.data))]
        half = next((r.half for r in known if r.half is not None), None)
        if half is not None:
            found.setdefault(HALF, {}).setdefault(row.name, half)
        if row.floor is not None:
            found.setdefault(row.floor_name, {}).setdefault(row.name, row.floor)
    labels = {}
    for floor, of_names in found.items():
        apart: dict[str, float] = {}
        for name, value in of_names.items():  # one line where they agree to what a label shows
            if not any(f"{value:.3g}" == f"{other:.3g}" for other in apart.values()):
                apart[name] = value
        for name, value in apart.items():
            labels[floor if len(apart) == 1 else f"{floor}<br>{shorten(escape(name), 30, placeholder='…')}"] = value
    return labels


def against(reference: RunRow, rows: Sequence[RunRow], chosen: Iterable[str], measure: str) -> dict[str, Comparison | str]:
    """Configurations against the reference's, over the seeds that both finished, with Holm's correction; or why not.

    Args:
        rows: all runs; every finished seed of a configuration counts, whether it was chosen or not.
        chosen: names of the configurations.
    """
    groups = configurations(row for row in rows if row.run.summary is not None)
    base = {row.seed: getattr(row, measure) for row in groups.get(reference.name, [])}
    found: dict[str, Comparison | str] = {}
    for name in dict.fromkeys(chosen):
        if name == reference.name:
            continue
        of_seeds = groups.get(name, [])
        if not of_seeds or not base:
            found[name] = f"{'no run of it' if base else 'no run of the reference'} is finished"
        elif of_seeds[0].data != reference.data or of_seeds[0].run.config.grid != reference.run.config.grid:
            found[name] = "was made on other frames or another grid than the reference: no seed of it can be paired"
        else:
            arm = {row.seed: getattr(row, measure) for row in of_seeds if row.seed in base}
            # A seed that only one of them was trained with is no loss of a run.
            found[name] = compare({seed: base[seed] for seed in arm}, arm, higher_is_better=measure != "floor_distance")
    judged = corrected({name: c for name, c in found.items() if isinstance(c, Comparison)})
    return {name: judged.get(name, c) for name, c in found.items()}


def sweep_rows(rows: Sequence[RunRow]) -> list[Row]:
    """The same runs as rows of a sweep's table, which :func:`occlab.ablation.write_table` writes: a configuration is an arm.
    A run that is not finished counts as one that gave no numbers. One that repeats another gets an arm of its own."""
    seen, found = set(), []
    for row in rows:
        name, number = row.name, 1
        while (name, row.seed) in seen:
            number += 1
            name = f"{row.name}, run {number}"
        seen.add((name, row.seed))
        config = row.run.config
        task = Task(Arm(name, _dotted(config)), config, row.identity)
        try:
            if row.run.summary is None:
                raise OcclabError(f"not finished: {row.steps} of {config.steps} steps")
            found.append(done_row(task, row.run))
        except OcclabError as error:
            found.append(failed_row(task, str(error), 1, None) | {"run": row.folder.name})
    return found


RESULTS = {"IoU, held out": "held_out_iou", "IoU, training": "training_iou", "settled loss": "settled_loss"}


def columns(rows: Sequence[RunRow]) -> list[dict[str, Any]]:
    """A dict a row, for a plot over parallel axes: the settings in which the rows differ, then what came out, those of
    :data:`RESULTS` that every row has."""
    of_rows = settings([row.run.config for row in rows])
    left_out = ("snapshot steps", "in channels", "out channels")
    varied = [label for label in (of_rows[0] if rows else ()) if len({str(each[label]) for each in of_rows}) > 1]
    known = {words: what for words, what in RESULTS.items() if all(getattr(row, what) is not None for row in rows)}
    return [
        {label: each[label] for label in varied if label not in left_out}
        | {words: getattr(row, what) for words, what in known.items()}
        for row, each in zip(rows, of_rows, strict=True)
    ]


def _dotted(config: TrainConfig) -> dict[str, Any]:
    """What differs from the training as it stood at full size, by dotted name."""
    standing = TrainConfig()
    names = [name for name in setting_names(config) if name not in ("model", "grid", "loss", "seed")]
    return {name: _value(config, name) for name in names if _value(config, name) != _value(standing, name)}


def _phrase(label: str, value: Any) -> str:
    if value is True or value == "yes":
        return label
    if value is False:
        return f"no {label}"
    return f"{label} {value:g}" if isinstance(value, float) else f"{label} {value}".replace(", ", " ")


def _plain(value: Any) -> Any:
    """A number, a truth value, None, or a text."""
    if isinstance(value, Mapping):
        return " ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    if isinstance(value, tuple | list):
        text = (", " if any(isinstance(item, float) for item in value) else "-").join(f"{item:g}" for item in value)
        return text if len(text) <= 24 else f"{value[0]:g} to {value[-1]:g}"
    return value


def _size(config: TrainConfig) -> dict[str, str]:
    _, ny, nx = config.grid.shape
    return {
        "grid": f"{nx} x {ny} cells of {config.grid.voxel_size[0]:g} m",
        "width": f"width {config.model.width:g}",
        "steps": f"{config.steps} steps",
        "batch size": f"batch size {config.batch_size}",
        "precision": config.precision.partition("-")[0],
    }


def _value(config: Any, name: str) -> Any:
    for part in name.split("."):
        config = getattr(config, part)
    return config


def _stored(folder: Path) -> tuple[str, str, str]:
    """What a run's config.json says beside the configuration: fingerprints of the frames, rates set by hand, and the hash of
    the run that it is another copy of; else its own, with which its folder's name ends."""
    stored = _read_json(folder / "config.json")
    try:
        prints = [[entry["fingerprint"] for entry in stored[group]] for group in ("frames", "held_out")]
    except (KeyError, TypeError):
        prints = []
    rates = rates_by_hand(folder / "config.json")
    return json.dumps(prints), json.dumps(rates) if rates else "", str(stored.get("run") or folder.name.rpartition("-")[2])
