"""TensorBoard event files of one run: scalars merged by tag and step, the latest wall time winning."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...errors import OcclabError
from .assemble import assemble, interval, main_series
from .curves import Curves, Series
from .event_file import Damage, read_scalars
from .hparams import hparams_beside
from .lines import clean
from .log import TrainingLog
from .names import TRAINING_WORDS, VALIDATION_WORDS, is_validation, words

_MMCV = {"learning_rate", "momentum", "train/loss"}
"""Tags that mmcv's ``TensorboardLoggerHook`` writes together; its values are means since the row before."""


def read_events(paths: Sequence[Path]) -> TrainingLog:
    """The log in the event files of one run. Those in folders named after training or validation (Keras, ``add_scalars``)
    give their folder's name to their tags.

    Raises:
        OcclabError: no scalar of training in them, or not readable.
    """
    merged, damage = Curves(), Damage()
    ends: dict[tuple[bool, str], float] = {}  # the last wall time of each curve
    pieces = sorted((_first_wall(path), path) for path in paths)
    top = Path(os.path.commonpath([path.parent for path in paths]))
    for _, path in pieces:
        _merge(merged, _read(path, damage, prefixed=path.parent != top), ends)
    newest = pieces[-1][1]
    if not merged.training:
        raise OcclabError(f"{clean(newest)}: expected scalars of a training in the event file, found none")
    settings, notes = hparams_beside(newest)
    if damage.records:
        notes.append(f"{damage.records} broken records are left out.")
    if damage.large:
        notes.append(f"{damage.large} records of over 1 MB are left out.")
    if damage.lost_at is not None:
        notes.append(f"An event file is broken at byte {damage.lost_at}; what follows is left out.")
    if len(pieces) > 1:
        notes.append(f"{len(pieces)} event files are merged.")
    main = main_series(merged)
    every = interval(main, lambda raw: raw) if merged.training.keys() >= _MMCV else None
    return assemble(
        newest,
        "TensorBoard events",
        merged,
        settings=settings,
        rows=main.seen,
        validation_rows=max((series.seen for series in merged.validation.values()), default=0),
        notes=notes,
        window=every,
    )


def _first_wall(path: Path) -> float:
    return next((wall for wall, *_ in read_scalars(path, Damage())), 0.0)


class _Piece:
    """One file: its curves, and the first and last wall time of each."""

    def __init__(self) -> None:
        self.curves = Curves()
        self.times: dict[tuple[bool, str], list[float]] = {}


def _read(path: Path, damage: Damage, *, prefixed: bool) -> _Piece:
    piece = _Piece()
    folder = path.parent.name
    named = prefixed and not (TRAINING_WORDS | VALIDATION_WORDS).isdisjoint(words(folder))
    curves, sides = piece.curves, {}
    for wall, step, tag, value in read_scalars(path, damage):
        name = f"{folder}/{tag}" if named else tag
        side = sides.get(name)
        if side is None:
            side = is_validation(name)
            if len(sides) < 10_000:
                sides[name] = side
        group = curves.validation if side else curves.training
        curves.add(group, step, ((name, value),))
        if name in group:
            piece.times.setdefault((side, name), [wall, wall])[1] = wall
    return piece


def _merge(merged: Curves, piece: _Piece, ends: dict[tuple[bool, str], float]) -> None:
    groups = ((merged.training, piece.curves.training, False), (merged.validation, piece.curves.validation, True))
    for old, new, side in groups:
        for name, series in new.items():
            begun, ended = piece.times[side, name]
            before = old.get(name)
            if before is None:
                merged.add(old, 0, ((name, 0.0),))  # takes a name of the bounded number
                if name in old:
                    old[name] = series
            elif begun >= ends[side, name]:
                _append(before, series, merged.most)
            else:
                old[name] = _union(before, series, merged.most)
            ends[side, name] = max(ended, ends.get((side, name), ended))
    merged.names_left_out |= piece.curves.names_left_out


def _append(before: Series, series: Series, most: int) -> None:
    """A run that was resumed, or begun anew: what had been reached behind its first step is dropped."""
    if series.steps and before.steps:
        before.go_back(series.steps[0])
    before.restarts += series.restarts
    before.left_out += series.left_out
    before.steps.extend(series.steps)
    before.values.extend(series.values)
    _account(before, series, most)


def _union(before: Series, series: Series, most: int) -> Series:
    """Files written at the same time, by several processes: their rows in order of step, of equal ones the later file's."""
    step = np.concatenate([np.asarray(before.steps), np.asarray(series.steps)])
    value = np.concatenate([np.asarray(before.values), np.asarray(series.values)])
    order = np.argsort(step, kind="stable")
    step, value = step[order], value[order]
    last = np.append(step[1:] != step[:-1], True)
    both = Series()
    both.steps.frombytes(step[last].astype(np.int64).tobytes())
    both.values.frombytes(value[last].astype(np.float64).tobytes())
    for name in ("last", "left_out", "restarts", "seen", "stride"):
        setattr(both, name, getattr(before, name))
    _account(both, series, most)
    return both


def _account(before: Series, series: Series, most: int) -> None:
    before.seen += series.seen
    before.stride = max(before.stride, series.stride)
    before.last = max(before.last, series.last)
    before.thin(most)
