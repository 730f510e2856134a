"""Runs the course from start to end: every notebook in order, one page of each, a short table of what came out.

    occlab course              execute into build/course/, with an HTML page of each notebook
    occlab course --refresh    execute in place, pictures beside the Plotly data: what is committed

A notebook hands numbers to the table with `record(plateau=..., floor=...)`; `collect(path)` reads them back from the
executed file.
"""

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from . import pages
from .errors import OcclabError, require
from .settings import home, profile

SUMMARY_MIME = "application/vnd.occlab.summary+json"
LARGEST_NOTEBOOK = 2_000_000
"""Bytes of a committed notebook; hosts stop drawing larger ones."""

Progress = Callable[[int, int, bool], None]
"""Called as (cell, cells, done) before and after each code cell."""


# --- numbers handed from a notebook to the table --------------------------------------------------------------------


def record(**values: float | int | str | bool) -> None:
    """Show named numbers in a notebook and keep them in its file, where `collect` finds them.

    NumPy and torch scalars are kept as Python numbers; a float is shown with four significant digits.
    """
    from IPython.display import display

    plain = {name: value.item() if hasattr(value, "item") else value for name, value in values.items()}
    width = max(map(len, plain), default=0)
    text = "\n".join(f"{_label(name):<{width}}  {_shown(value)}" for name, value in plain.items())
    display({SUMMARY_MIME: plain, "text/plain": text}, raw=True)


def collect(path: str | Path) -> dict[str, Any]:
    """What the notebook at `path` recorded when it was last executed; empty if it recorded nothing."""
    return _recorded(pages.read(path))


def _recorded(notebook: Any) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for output in pages.outputs(notebook):
        values.update(output.get("data", {}).get(SUMMARY_MIME, {}))
    return values


def _label(name: str) -> str:
    return name.replace("_", " ")


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# --- executing ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Failure:
    """A cell that raised, or a kernel that died under it."""

    notebook: str
    cell: int
    """Which code cell, counted from 1."""
    heading: str
    lines: tuple[str, ...]
    """The last lines of the error."""

    def __str__(self) -> str:
        under = f", under {self.heading!r}" if self.heading else ""
        return "\n".join(
            [f"stopped in {self.notebook}, code cell {self.cell}{under}:", *(f"    {line}" for line in self.lines)]
        )


def find_notebooks(folder: str | Path) -> list[Path]:
    """The numbered notebooks of a folder, in order.

    Raises:
        OcclabError: there is none.
    """
    found = sorted(Path(folder).glob("[0-9][0-9]_*.ipynb"))
    if not found:
        raise OcclabError(f"no notebook named like 00_start_here.ipynb in {folder}; type the command in the project's folder")
    return found


def execute(path: Path, progress: Progress) -> tuple[Any, Failure | None]:
    """Run one notebook in a fresh kernel, in its own folder.

    Returns:
        the notebook with the outputs it got, and the failure that ended it early, if one did.
    """
    nbclient = require("nbclient")
    notebook = pages.read(path)
    code = [i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code" and cell.source.strip()]
    number = {index: n for n, index in enumerate(code, start=1)}
    last = code[0] if code else 0

    def started(cell, cell_index, **_):
        nonlocal last
        last = cell_index
        progress(number[cell_index], len(code), False)

    def ended(cell, cell_index, **_):
        progress(number[cell_index], len(code), True)

    client = nbclient.NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        extra_arguments=["--IPKernelApp.log_level=ERROR"],  # it warns on each start of a loopback socket
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
        store_widget_state=False,  # 5 MB of script for each live figure
        shutdown_kernel="immediate",  # nothing runs any more; asking politely takes 3 seconds a notebook
        on_cell_execute=started,
        on_cell_executed=ended,
    )
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")  # this environment's kernel before one in the home folder
    try:
        client.execute()
    except nbclient.exceptions.CellExecutionError as error:
        lines = _last_lines(error.traceback)
    except nbclient.exceptions.DeadKernelError:
        lines = ("the notebook's Python died; most often the machine's memory was used up",)
    else:
        return notebook, None
    return notebook, Failure(path.name, number.get(last, 0), _heading_above(notebook, last), lines)


def _last_lines(traceback: str, count: int = 8) -> tuple[str, ...]:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", traceback)
    return tuple(line for line in plain.splitlines() if line.strip())[-count:]


def _heading_above(notebook: Any, index: int) -> str:
    for cell in reversed(notebook.cells[:index]):
        headings = re.findall(r"^#+ +(.+)$", cell.source, re.MULTILINE) if cell.cell_type == "markdown" else []
        if headings:
            return headings[-1].strip()
    return ""


@contextmanager
def _progress(label: str) -> Iterator[Progress]:
    """A bar that moves on a terminal, elsewhere one plain line a cell."""
    if sys.stdout.isatty():
        with _bar(label) as move:
            yield move
        return
    started = time.perf_counter()

    def line(cell: int, cells: int, done: bool) -> None:
        nonlocal started
        if done:
            print(f"{time.perf_counter() - started:7.1f} s", flush=True)
        else:
            print(f"{label}  cell {cell:2d}/{cells}", end="", flush=True)
        started = time.perf_counter()

    yield line


@contextmanager
def _bar(label: str) -> Iterator[Progress]:
    layout = "{desc}  {bar:20}  {n_fmt:>2}/{total_fmt} cells  {elapsed}"
    bar = tqdm(desc=label, file=sys.stdout, bar_format=layout, total=0, dynamic_ncols=True)

    def move(cell: int, cells: int, done: bool) -> None:
        bar.total, bar.n = cells, cell if done else cell - 1
        bar.refresh()

    stop = threading.Event()

    def tick() -> None:  # a cell may train for a minute; a moving clock shows that it is alive
        while not stop.wait(1.0):
            bar.refresh()

    clock = threading.Thread(target=tick, daemon=True)
    clock.start()
    try:
        yield move
    finally:
        stop.set()
        clock.join()
        bar.close()


# --- the two commands -----------------------------------------------------------------------------------------------


def run_course(notebooks: str | Path = "notebooks", out: str | Path = "build/course") -> bool:
    """Execute the notebooks of a folder in order, write each and its page to `out`, print the table.

    Stops at the first cell that fails; what was executed until then is written too.

    Returns:
        whether all of them ran to their end.
    """
    paths, out = find_notebooks(notebooks), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    pages.write_script(out)
    print(f"{len(paths)} notebooks, profile {profile().name}, into {out}/", flush=True)
    began = time.perf_counter()
    widest = max(len(path.stem) for path in paths)
    recorded: dict[str, Any] = {}
    with ThreadPoolExecutor(1) as writer:  # a page takes a second, while the next notebook's kernel is starting
        written = []
        for number, path in enumerate(paths, start=1):
            with _progress(f"[{number:2d}/{len(paths)}] {path.stem:<{widest}}") as progress:
                notebook, failure = execute(path, progress)
            pages.write(notebook, out / path.name)
            written.append(writer.submit(pages.write_page, notebook, out / f"{path.stem}.html"))
            if failure:
                written[-1].result()
                print(f"\n{failure}\nwhat was executed is kept in {out}/{path.name}, and as a page in {path.stem}.html")
                return False
            recorded |= _recorded(notebook)
        for page in written:
            page.result()
    _print_table(recorded, paths, out, time.perf_counter() - began)
    return True


def _print_table(recorded: dict[str, Any], paths: list[Path], out: Path, seconds: float) -> None:
    rows = [(_label(name), _shown(value)) for name, value in recorded.items()]
    rows += [
        ("pages to read", f"{out}/{paths[0].stem}.html and the pages after it"),
        ("executed notebooks", f"{out}/"),
        ("frames and runs", str(home())),
        ("time", f"{seconds / 60:.1f} min for {len(paths)} notebooks"),
    ]
    width = max(len(label) for label, _ in rows)
    print("\n" + "\n".join(f"  {label:<{width}}  {value}" for label, value in rows))


def refresh(notebooks: str | Path = "notebooks", only: str = "") -> bool:
    """Execute the committed notebooks in place, with a picture beside each figure and nothing of this machine kept.

    Args:
        only: refresh the notebooks whose name starts with this, e.g. "02".

    Returns:
        whether all of them ran to their end and are small enough to commit.

    Raises:
        OcclabError: there is no such notebook, or no Chromium or Chrome to draw the pictures with.
    """
    chosen = [path for path in find_notebooks(notebooks) if path.name.startswith(only)]
    if not chosen:
        raise OcclabError(f"no notebook in {notebooks} starts with {only!r}")
    for path in chosen:
        with _progress(path.stem) as progress:
            notebook, failure = execute(path, progress)
        if failure:
            print(f"\n{failure}\n{path} is left as it was")
            return False
        pages.add_pictures(notebook)
        pages.clean(notebook)
        size = pages.size(notebook)
        if size > LARGEST_NOTEBOOK:
            print(f"{path} would have {size / 1e6:.1f} MB, the limit is {LARGEST_NOTEBOOK / 1e6:.0f} MB; it is left as it was")
            return False
        pages.write(notebook, path)
        print(f"{path}: {size / 1e3:.0f} kB")
    return True
