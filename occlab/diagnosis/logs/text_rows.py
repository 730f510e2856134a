"""Text logs of mmcv 1.x and of mmengine, line by line.

    2025-08-12 11:56:37,566 - mmdet3d - INFO - Epoch [1][27/30895]  lr: 7.360e-05, eta: 4 days, 13:16:00, ..., loss: 119.6038
    2022/08/21 02:58:41 - mmengine - INFO - Epoch(train)  [1][ 10/196]  lr: 3.3333e-04  eta: 0:13:14  ...  loss: 6.1887

Sources: mmcv 1.7.2 ``runner/hooks/logger/text.py``, mmengine 0.10 ``runner/log_processor.py``. Copied logs often have spaces
for mmcv's tab; SparseOcc writes ``Epoch [1/24][50/3516] loss: ...``.
"""

import re
from collections.abc import Iterable, Iterator

from .lines import LARGEST_STEP
from .rows import LARGEST_EPOCH, Found, Row

# Every repetition is bounded, so that no line can make a search take the square of its length.
_NUMBER = r"[-+]?(?:\d{1,40}(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][-+]?\d{1,5})?|[-+]?(?:nan|inf)"
_BRACKET = r"\[[ \t]{0,20}(\d{1,12})(?:/(\d{1,12}))?\]"
_ROW = re.compile(rf"(Epoch|Iter)[ \t]{{0,4}}(?:\((train|val|test)\))?[ \t]{{0,8}}{_BRACKET}(?:[ \t]{{0,8}}{_BRACKET})?")
_VALUE = re.compile(rf"(?<![\w./-])([A-Za-z_][\w./-]{{0,199}}+):[ \t]{{0,8}}({_NUMBER})(?=[,\s]|$)")
_ETA = re.compile(r"eta: (?:\d{1,6} days?, )?\d{1,6}:\d\d:\d\d,?")  # else "4 days" is read as 4
_HEADER = re.compile(r"\[?\d{2,4}[-/]\d\d")
_SEED = re.compile(r"random seed to (\d{1,12})\b", re.IGNORECASE)
_COLOUR = re.compile(r"\x1b\[[0-9;]{0,20}m")

LONGEST_CONFIG = 200_000
LONGEST_ROW = 50_000


def text_rows(lines: Iterable[str], found: Found) -> Iterator[Row]:
    """The rows of a text log; what else it says goes into ``found``."""
    config: list[str] | None = None  # the lines of a configuration that is being dumped
    room = LONGEST_CONFIG
    for line in lines:
        at = line.find("Epoch")
        if at < 0:
            at = line.find("Iter")
        match = _ROW.search(line, at) if at >= 0 else None
        if match is None:
            if config is not None:
                if _HEADER.match(line):
                    found.config, config = "\n".join(config), None
                elif room > 0:
                    config.append(line[:room])
                    room -= len(line) + 1
            if "Config:" in line[:200]:
                config, room = [], LONGEST_CONFIG
            elif (seed := _SEED.search(line[:400])) is not None:
                found.seed = int(seed[1])
            continue
        if config is not None:
            found.config, config = "\n".join(config), None
        row = _row(match, line, found)
        if row is not None:
            yield row
    if config:
        found.config = "\n".join(config)


def _row(match: re.Match[str], line: str, found: Found) -> Row | None:
    word, mode, first, of_first, second, of_second = match.groups()
    rest = line[match.end() : match.end() + LONGEST_ROW]
    if "\x1b" in rest:
        rest = _COLOUR.sub("", rest)
    if "eta: " in rest:
        rest = _ETA.sub("", rest)
    values = [(name, float(value)) for name, value in _VALUE.findall(rest)]
    epoch, iteration = (int(first), int(second or 0)) if word == "Epoch" else (0, int(first))
    if mode == "test":
        return None
    if not values or epoch >= LARGEST_EPOCH or iteration >= LARGEST_STEP or (word == "Epoch" and second is None):
        found.not_understood += mode != "val"
        return None
    if mode == "val":  # the second number counts validation batches, and so does that of Iter(val)
        return Row(True, epoch, 0, values)
    if not found.form:
        found.form = "mmengine text" if mode else "mmcv text"
        found.counts_on = word == "Iter"
    if word == "Iter":
        found.total_steps = int(of_first or 0)
    else:
        found.epoch_length = max(found.epoch_length, min(int(of_second or 0), LARGEST_STEP))
        found.epochs = min(int(of_first or 0), LARGEST_EPOCH)
    return Row(False, epoch, iteration, values)
