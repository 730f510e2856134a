"""JSON-lines logs: mmcv 1.x ``.log.json``, mmengine ``scalars.json``, and the ``scalars.json`` of occlab's own runs.

    {"mode": "train", "epoch": 1, "iter": 20, "lr": 0.05, ..., "loss": 5.7752, "grad_norm": 2.36381, "time": 0.84397}
    {"lr": 0.0001, "data_time": 0.003, "loss": 2.29, "time": 0.010, "epoch": 1, "step": 150}

mmcv: ``iter`` counts within the epoch, that of a validation row validation batches; every number is rounded to five decimals;
the first line may hold the configuration. mmengine: ``step`` counts from the start, that of a validation row epochs.
Sources: mmcv 1.7.2 ``runner/hooks/logger/text.py``, mmengine 0.10 ``hooks/logger_hook.py``, ``visualization/vis_backend.py``.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from .lines import number, parse_object, whole
from .names import VALIDATION_WORDS, words
from .rows import LARGEST_EPOCH, Found, Row

_PLACE = {"mode", "epoch", "iter", "step"}
_TRAINING = {"lr", "base_lr", "loss", "iter"}


def json_rows(lines: Iterable[str], found: Found) -> Iterator[Row]:
    """The rows of a JSON-lines log; what else it says goes into ``found``."""
    epoch = step = 0  # of the last training row of mmengine
    for line in lines:
        if not line or line.isspace():
            continue
        values = parse_object(line)
        row = None
        if values is None:
            pass
        elif "mode" in values or ("iter" in values and "step" not in values):
            found.form = found.form or "mmcv json"
            row = _mmcv(values)
        elif "step" in values:
            if not found.form:
                found.form = "occlab run" if "clip_coefficient" in values else "mmengine scalars"
                found.counts_on = True
            row = _mmengine(values, epoch, step)
            if row is not None and not row.validation:
                epoch, step = row.epoch, row.iteration
        elif "config" in values or "env_info" in values:
            _meta(values, found)
            continue
        if row is None:
            found.not_understood += 1
        else:
            yield row


def _mmcv(values: dict[str, Any]) -> Row | None:
    epoch, iteration = whole(values.get("epoch", 0)), whole(values.get("iter"))
    if epoch is None or epoch >= LARGEST_EPOCH:
        return None
    if values.get("mode", "train") != "train":
        return Row(True, epoch, 0, _numbers(values)) if values["mode"] == "val" else None
    return None if iteration is None else Row(False, epoch, iteration, _numbers(values))


def _mmengine(values: dict[str, Any], last_epoch: int, last_step: int) -> Row | None:
    step, epoch = whole(values["step"]), whole(values.get("epoch")) or 0
    if step is None or epoch >= LARGEST_EPOCH:
        return None
    keys = values.keys()
    if not _TRAINING.isdisjoint(keys) or any(key.rpartition("/")[2] in _TRAINING and not _is_validation(key) for key in keys):
        return Row(False, epoch, step, _numbers(values))
    if step <= last_epoch and step != last_step:
        return Row(True, step, 0, _numbers(values))
    # Where training goes by iterations, an evaluation that counts epochs says 0 or some small number: it was made just now.
    return Row(True, 0, step if 2 * step >= last_step else last_step, _numbers(values))


def _is_validation(key: str) -> bool:
    return not VALIDATION_WORDS.isdisjoint(words(key))


def _numbers(values: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if name in _PLACE:
            continue
        if type(value) is float:
            yield name, value
        elif isinstance(value, dict):  # mmcv's learning rates of several optimisers
            for inner, part in value.items():
                if (converted := number(part)) is not None:
                    yield f"{name}_{inner}", converted
        elif (converted := number(value)) is not None:
            yield name, converted


def _meta(values: dict[str, Any], found: Found) -> None:
    """mmcv's first line: where the run was made, and with what configuration."""
    if isinstance(values.get("config"), str):
        found.config = values["config"]
    seed = whole(values.get("seed"))
    found.seed = seed if seed is not None else found.seed
