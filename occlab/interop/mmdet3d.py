"""mmdetection3d configurations, of mmcv 1.x and of mmengine, as occlab's."""

import math
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from ..errors import OcclabError
from ..grid import VoxelGrid
from ..losses import OccupancyLoss
from ..models import UNetConfig
from ..training import TrainConfig
from .custom_keys import check_custom_keys
from .model_sections import read_augmentation, read_grid, read_model
from .notes import Notes, Said, Section
from .python_file import MOST_SENTENCES, PythonFile, plain, read_text, shown
from .python_syntax import parse
from .training_sections import read_mmcv, read_mmengine

Style = Literal["mmcv", "mmengine"]


@dataclass(frozen=True)
class MmdetConfig:
    """What a configuration file says, in occlab's words."""

    config: TrainConfig
    """TrainConfig's defaults, the training as it stood, where the file is silent."""
    said: dict[str, Said]
    """TrainConfig's fields that the file gave, with dots (``model.head``, ``grid.voxel_size``, ``loss.dice``), and where."""
    bases: tuple[str, ...]
    """Files that this one builds on. They are not followed: what they say is missing here."""
    not_carried: tuple[str, ...]
    """What the file says and ``config`` does not, or not quite; one sentence each, with the place."""
    changes_nothing: tuple[str, ...]
    """Options of the file that change nothing; one sentence each, with the place."""
    style: Style


def read_mmdet3d(source: Path | str | dict[str, Any]) -> MmdetConfig:
    """Read a configuration. Nothing in it is executed, and its base files are not opened.

    Args:
        source: a file; the text of one (one line that ends in ``.py`` is the name of a file); or its values as a dict.

    Raises:
        OcclabError: no such file, not Python, more than 1 MB, or beyond the bounds on depth and number of values.

    >>> read_mmdet3d("optimizer = dict(type='AdamW', lr=2 * 5e-4)").config.learning_rate
    0.001
    """
    notes = Notes(_parsed(source))
    root = Section(notes.file.values, (), notes)
    style = _style(root)
    if style == "mmengine":
        read_mmengine(root)
    else:
        read_mmcv(root)
    read_grid(root)
    own = read_model(root)
    read_augmentation(root)
    if (section := root.section("occlab")) is not None:
        _read_own(section)
    _finish(root)
    config = check_custom_keys(_build(notes), notes, own)
    return MmdetConfig(
        config=config,
        said=notes.said,
        bases=tuple(notes.file.bases),
        not_carried=_first(notes.file.not_understood + notes.not_carried),
        changes_nothing=_first(notes.file.repeated + notes.changes_nothing),
        style=style,
    )


def _parsed(source: Path | str | dict[str, Any]) -> PythonFile:
    if isinstance(source, dict):
        return plain(source, "the configuration")
    if isinstance(source, str) and ("\n" in source or not source.rstrip().endswith(".py")):
        return parse(source, "the configuration")
    return parse(read_text(Path(source)), shown(str(source)))


def _style(root: Section) -> Style:
    length = root.values.get("train_cfg")  # old mmdetection has another one, of the model
    ours = {"optim_wrapper", "param_scheduler", "train_dataloader", "randomness"} & set(root.values)
    if ours or (isinstance(length, dict) and {"by_epoch", "max_iters", "max_epochs"} & set(length)):
        return "mmengine"
    return "mmcv"


def _read_own(section: Section) -> None:
    """The settings that the format has no word for; see :func:`occlab.interop.write_mmdet3d`."""
    notes = section.notes
    for f in fields(TrainConfig):
        if f.name in ("model", "grid", "loss") or f.name not in section:
            continue
        value = section.take(f.name)
        value = tuple(value) if isinstance(value, list) else value
        if f.name in notes.said and not _same(notes.said[f.name].value, value):
            section.idle(f.name, f"{notes.said[f.name].where} says otherwise, and counts")
        else:
            section.say(f.name, value, f.name)
    section.finish()


def _same(a: Any, b: Any) -> bool:
    """Equal, but for what turning degrees into radians and back costs."""
    if type(a) is float and type(b) in (int, float):
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-300)
    return a == b


def _finish(root: Section) -> None:
    """What is left at the top: names that other values are made of were helpers."""
    root.taken |= {name for name in root.values if name in root.notes.file.used or str(name).startswith("_")}
    rest = [shown(str(name)) for name in root.values if name not in root.taken and name in root]
    if rest:
        more = f" and {len(rest) - 30} more" if len(rest) > 30 else ""
        root.notes.not_carried.append(f"not read, because occlab has no such settings: {', '.join(rest[:30])}{more}")


_ORDER = ("steps", "optimizer", "output_prior")
"""Settings that others depend on: an SGD's momentum, a warm-up's steps, where a prior is set."""


def _build(notes: Notes) -> TrainConfig:
    """A configuration of everything said that makes sense; what does not is taken back, with the reason."""
    grid = _part(notes, "grid", VoxelGrid) or VoxelGrid()
    heights = grid.shape[0]
    sizes = {"in_channels": 8 * heights, "out_channels": heights}  # where the file is silent, the network follows the grid
    config = TrainConfig(grid=grid, model=UNetConfig(**sizes))
    model = _part(notes, "model", UNetConfig, sizes)
    config = _with(config, notes, "model", model)
    config = _with(config, notes, "loss", _part(notes, "loss", OccupancyLoss))
    names = [name for name in notes.said if "." not in name]
    for name in sorted(names, key=lambda name: name not in _ORDER):
        config = _with(config, notes, name, notes.said[name].value)
    return config


def _part(notes: Notes, part: str, kind: type, start: dict[str, Any] | None = None) -> Any:
    """A grid, network or loss from what was said of it; None where that was nothing, or makes none."""
    said = {name.partition(".")[2]: value.value for name, value in notes.said.items() if name.startswith(f"{part}.")}
    if not said:
        return None
    try:
        return kind(**((start or {}) | said))
    except (OcclabError, TypeError, ValueError, OverflowError) as error:
        _take_back(notes, part, error)
        return None


def _with(config: TrainConfig, notes: Notes, name: str, value: Any) -> TrainConfig:
    if value is None and name in ("model", "loss"):
        return config
    try:
        return replace(config, **{name: value})
    except (OcclabError, TypeError, ValueError, OverflowError) as error:
        _take_back(notes, name, error)
        return config


def _take_back(notes: Notes, name: str, error: Exception) -> None:
    taken = [key for key in notes.said if key.partition(".")[0] == name]
    where = notes.said[taken[0]].where
    for key in taken:
        del notes.said[key]
    problem = str(error) if isinstance(error, OcclabError) else "the values are of the wrong kind"
    notes.not_carried.append(f"{where}: {_short(problem)}")


def _short(text: str) -> str:
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= 300 else f"{text[:300]}..."


def _first(sentences: list[str]) -> tuple[str, ...]:
    sentences = list(dict.fromkeys(map(_short, sentences)))
    if len(sentences) <= 2 * MOST_SENTENCES:
        return tuple(sentences)
    return (*sentences[: 2 * MOST_SENTENCES], f"{len(sentences) - 2 * MOST_SENTENCES} more of the kind")
