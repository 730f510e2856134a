"""A run as files to take away: its folder, its figures, its configuration in three forms, and the table of many runs."""

import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..ablation import write_table
from ..errors import OcclabError, one_line, require
from ..files import write_atomically
from ..frames import Frame
from ..interop import write_mmdet3d
from ..training import Batches, Run, TrainConfig, load_run
from ..viz import CONFIG, comparison_figure, loss_figure
from .kept_designs import as_design, as_text, document
from .run_folder import rates_by_hand
from .run_table import RunRow, curves, floors, in_words, sweep_rows, table

STYLES = ("mmengine", "mmcv")
TABLE = ("runs.csv", "runs.about.json")
CONFIGURATION = ("config.py", "design.yaml", *(f"mmdet3d_{style}.py" for style in STYLES))
FIGURES = ("loss.html", "prediction.html", "loss.png", "prediction.png")
"""Names of the files that each of the functions below writes."""
WIDTH = 1000
"""Of a picture, pixels; as high as the figure is, and twice as fine."""
SAVED = 6
"""zlib's level for what can be made smaller; weights cannot."""


def write_run(folder: Path, to: Path) -> list[Path]:
    """The run's folder as ``NAME.zip``, with a folder of its name inside. One that is being trained may be taken too.

    Raises:
        OcclabError: no run there, or a place that cannot be written to.
    """
    load_run(folder)
    path = to / zipped(folder)

    def write(partial: Path) -> None:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=SAVED) as archive:
            # By name: the checkpoint before the log, which then is never behind it.
            for file in sorted(file for file in folder.rglob("*") if file.is_file()):
                name = file.relative_to(folder)
                if not any(part.startswith(".") for part in name.parts):  # locks, and files that are half-written
                    kind = zipfile.ZIP_STORED if file.suffix == ".safetensors" else zipfile.ZIP_DEFLATED
                    archive.write(file, Path(folder.name, name), kind)

    write_atomically(path, write)
    return [path]


def zipped(folder: Path) -> str:
    """The name of the file that :func:`write_run` writes."""
    return f"{folder.name}.zip"


def write_runs(rows: Sequence[RunRow], to: Path) -> list[Path]:
    """The table of runs as ``runs.csv``, in the form of a sweep's, and beside it where it comes from.

    Raises:
        OcclabError: no run, or a place that cannot be written to.
    """
    if not rows:
        raise OcclabError("there are no runs yet to make a table of")
    write_table(sweep_rows(rows), to / TABLE[0], command="occlab workbench")
    return [to / name for name in TABLE]


def write_configuration(folder: Path, to: Path) -> Iterator[Path]:
    """The configuration as Python that runs, as a design of one arm for ``occlab ablate``, and for mmdetection3d's two
    generations. Yields each file when it is written.

    Raises:
        OcclabError: no run there, a configuration that fits nothing, or a place that cannot be written to.
    """
    config, by_hand = load_run(folder).config, rates_by_hand(folder / "config.json")
    texts = [as_python(config, by_hand), as_design_file(config), *(write_mmdet3d(config, style) for style in STYLES)]
    for name, text in zip(CONFIGURATION, texts, strict=True):
        write_atomically(to / name, lambda partial, text=text: partial.write_text(text, encoding="utf-8"))
        yield to / name


def as_python(config: TrainConfig, by_hand: dict[int, float] | None = None) -> str:
    """Python whose ``config`` is this configuration; what is not said is as occlab has it by default.

    Args:
        by_hand: learning rates set while it trained, by the number of steps made before: no configuration can say them.

    >>> print(as_python(TrainConfig(learning_rate=1e-3)).splitlines()[-1])
    config = TrainConfig(learning_rate=0.001)
    """
    parts = {type(getattr(config, f.name)) for f in fields(config) if is_dataclass(getattr(config, f.name))}
    value, used = _constructor(config)
    imports = sorted(f"from {kind.__module__.replace('.unet', '')} import {kind.__name__}" for kind in parts & used)
    moved = [f"# By hand the learning rate became {rate:g} after step {after}." for after, rate in (by_hand or {}).items()]
    return "\n".join(
        [
            f"# {one_line(in_words(config))}; written by occlab {__version__}. What is not said here is as it stood.",
            "# With frames: occlab.training.train(config, frames, held_out)",
            *moved,
            *imports,
            "from occlab.training import TrainConfig",
            "",
            f"config = {value}",
            "",
        ]
    )


def _constructor(value: Any, indent: int = 0) -> tuple[str, set[type]]:
    """A dataclass as the call that makes it, with what differs from its defaults; and which classes that takes."""
    arguments, used, standing = [], {type(value)}, type(value)()
    for f in fields(value):
        inner = getattr(value, f.name)
        if inner == getattr(standing, f.name):
            continue
        written = json.dumps(inner) if isinstance(inner, str) else repr(inner)
        text, more = _constructor(inner, indent + 4) if is_dataclass(inner) else (written, set())
        arguments.append(f"{f.name}={text}")
        used |= more
    name, line = type(value).__name__, ", ".join(arguments)
    if indent + len(name) + len(line) < 90 and "\n" not in line:
        return f"{name}({line})", used
    lines = "".join(f"{' ' * (indent + 4)}{argument},\n" for argument in arguments)
    return f"{name}(\n{lines}{' ' * indent})", used


def as_design_file(config: TrainConfig) -> str:
    """YAML that ``occlab ablate`` takes: one arm with one seed, which is this configuration.

    Raises:
        OcclabError: a configuration that no training would take.
    """
    values = document(config, [config.seed], {"arms": {in_words(config): {}}})
    as_design(values)
    return f"# One training: occlab ablate design.yaml, with --data for frames of your own.\n{as_text(values)}"


def write_figures(folder: Path, frame: Frame | None, to: Path, *, pictures: bool = True) -> Iterator[Path | str]:
    """The losses over their floors, and the prediction for a frame against its target: as pages on their own, and as
    pictures. Yields each file when it is written, and a sentence for each that could not be.

    Args:
        frame: by default the prediction is left out.
        pictures: also as PNG, which takes Chromium some seconds each.

    Raises:
        OcclabError: no run there, or a place that cannot be written to.
    """
    run = load_run(folder)
    rows = table([run])
    figures = {"loss": loss_figure(curves(rows, "loss"), floors(rows), title="Loss")}
    try:
        figures["prediction"] = prediction_figure(run, frame)
    except OcclabError as error:
        yield f"The prediction is left out: {error}."
    for name, figure in figures.items():
        path = to / f"{name}.html"
        text = figure.to_html(include_plotlyjs=True, config=CONFIG)
        write_atomically(path, lambda partial, text=text: partial.write_text(text, encoding="utf-8"))
        yield path
    for name, figure in figures.items() if pictures else ():
        try:
            picture = png(figure)
        except OcclabError as error:
            yield f"There is no PNG: {error}."
            return
        path = to / f"{name}.png"
        write_atomically(path, lambda partial, picture=picture: partial.write_bytes(picture))
        yield path


def prediction_figure(run: Run, frame: Frame | None) -> Any:
    """The prediction for a frame against its target, in 3-D.

    Raises:
        OcclabError: no frame, or a run without weights.
    """
    if frame is None:
        raise OcclabError("there is no frame to predict; choose some under Set up")
    if not (run.folder / "checkpoint.safetensors").exists():
        raise OcclabError("the run has no weights yet; its first checkpoint comes when it is stopped, or after 25 steps")
    batch = Batches([frame], run.config).frame(0)
    mask = None if batch.mask is None else batch.mask[0]
    title = f"Prediction against target: {one_line(frame.name)}"
    return comparison_figure(run.predict(frame), batch.target[0], run.config.grid, mask=mask, title=title)


def png(figure: Any) -> bytes:
    """A picture of a figure.

    Raises:
        OcclabError: kaleido is missing, or it found no Chromium.
    """
    kaleido = require("kaleido")
    options = {"format": "png", "width": WIDTH, "height": figure.layout.height, "scale": 2}
    try:
        return kaleido.calc_fig_sync(figure.to_plotly_json(), opts=options)
    except Exception as error:  # its own and those of the browser: what is not there cannot be told from what does not start
        why = one_line(str(error), 200) or type(error).__name__
        raise OcclabError(f"a picture needs kaleido with Chromium or Chrome, which did not start ({why})") from error
