"""``occlab workbench``: the workbench as a web page, for people who do not want to see code."""

import html
import os
import sys
import tempfile
import threading
import traceback
import webbrowser
from pathlib import Path
from typing import Any

from ..errors import OcclabError, require
from ..settings import profile as profile_

HERE = Path(__file__).parent
CELL = "from occlab.workbench.serve import page\npage({runs!r})"


def serve(
    *, port: int = 0, theme: str = "light", browser: bool = True, runs: Path | None = None, profile: str | None = None
) -> None:
    """Serve the workbench on the loopback address until Ctrl-C. Every page that is opened has a Python process of its own.

    Args:
        port: 0 for a free one.
        theme: light or dark.
        browser: open the page in the browser.
        runs: folder for run folders; by default the workbench's own.
        profile: size of what is trained, as OCCLAB_PROFILE.

    Raises:
        OcclabError: a package is missing, the port is taken, or the profile or folder cannot be used.
    """
    for module in ("voila", "ipywidgets", "plotly", "anywidget"):
        require(module)
    from .server import Server

    size = profile_(profile)
    if runs is not None:
        runs = runs.resolve()
        runs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="occlab-") as folder:
        notebook = write_notebook(Path(folder), runs)
        server = Server(notebook, HERE, theme=theme, folder=Path.cwd())
        server.open(port)
        os.environ["OCCLAB_PROFILE"] = size.name  # the kernels inherit it
        os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")  # this environment's packages before those of the home folder
        server.run(lambda address, once: say(address, once if browser else None))
    print("occlab: the workbench has ended; every run is kept", file=sys.stderr)


def say(address: str, once: str | None) -> None:
    """Print the address, and have a browser open the other one."""
    print(f"The workbench is at {address} (Ctrl-C ends it)", flush=True)
    if once is not None:
        threading.Thread(target=webbrowser.open, args=(once,), daemon=True).start()


def write_notebook(folder: Path, runs: Path | None) -> Path:
    """The notebook that is served, two lines of code, in a folder that holds nothing else."""
    import nbformat

    v4 = nbformat.v4
    cell = v4.new_code_cell(CELL.format(runs=None if runs is None else str(runs)))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = folder / "workbench.ipynb"
    nbformat.write(v4.new_notebook(cells=[cell], metadata={"title": "occlab workbench", "kernelspec": kernel}), path)
    return path


def page(runs: str | None) -> Any:
    """What the served notebook shows: the workbench; where it could not be made, why not."""
    try:
        from . import Workbench

        return Workbench(None if runs is None else Path(runs))
    except Exception as error:
        traceback.print_exc(file=sys.__stderr__)
        from IPython.display import HTML

        said = str(error) if isinstance(error, OcclabError) else f"{type(error).__name__}: {error}"
        return HTML(f'<p role="alert">The workbench could not be opened: {html.escape(said)}</p>')
