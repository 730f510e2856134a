"""An executed notebook as a page to read, and as a file to commit.

The pages draw their Plotly figures without a network: they share one plotly.min.js that lies beside them. A committed
notebook holds a PNG beside each figure, for places that run no script, and nothing of the machine it was run on.
"""

import copy
import json
import re
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import OcclabError, require

PLOTLY_MIME = "application/vnd.plotly.v1+json"
WIDGET_MIME = "application/vnd.jupyter.widget-view+json"

LARGEST_FIGURE = 400_000
"""Bytes of Plotly data in one output beyond which a committed notebook keeps only the picture."""

TEMPLATE = """{% extends 'lab/index.html.j2' %}
{% block html_head_js %}<script src="plotly.min.js"></script>{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}
{% block html_head_js_mermaidjs %}{% endblock %}
"""
"""nbconvert's page without its links to other servers."""

LIVE_CONTROL = (
    "<p><em>A live control stands here. It needs Python behind it: open this notebook with</em> <code>make lab</code>.</p>"
)


def read(path: str | Path) -> Any:
    """Read a notebook file.

    Raises:
        OcclabError: it is absent, or no notebook.
    """
    nbformat = require("nbformat")
    try:
        return nbformat.read(path, as_version=4)
    except (OSError, ValueError, AttributeError, nbformat.ValidationError) as error:
        raise OcclabError(f"{path} is not a notebook that can be read: {error}") from error


def write(notebook: Any, path: str | Path) -> None:
    """Write a notebook file."""
    require("nbformat").write(notebook, path)


def outputs(notebook: Any) -> Iterator[Any]:
    """Every output of every code cell, in order."""
    for cell in notebook.cells:
        yield from cell.get("outputs", [])


def size(node: Any) -> int:
    """Bytes of a notebook, or of a part of one, as JSON."""
    return len(json.dumps(node, ensure_ascii=False).encode())


def write_page(notebook: Any, path: Path) -> None:
    """Write one HTML page, its figures alive, nothing fetched from another server; `write_script` goes beside it."""
    nbconvert = require("nbconvert")
    notebook = copy.deepcopy(notebook)
    drop_progress_bars(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":  # what was the next notebook is the next page here
            cell.source = re.sub(r"\]\((\d\d_\w+)\.ipynb", r"](\1.html", cell.source)
    for output in outputs(notebook):
        data = output.get("data", {})
        if PLOTLY_MIME in data:
            output["data"] = {"text/html": _live_figure(data[PLOTLY_MIME])}
        elif WIDGET_MIME in data:
            output["data"] = {"text/html": LIVE_CONTROL}
    exporter = nbconvert.HTMLExporter(raw_template=TEMPLATE)
    html, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": path.stem}})
    path.write_text(html, encoding="utf-8")


def _live_figure(figure: dict[str, Any]) -> str:
    pio = require("plotly.io", package="plotly")
    return pio.to_html(
        {"data": figure["data"], "layout": figure["layout"]},
        config={"responsive": True, "displaylogo": False},
        include_plotlyjs=False,
        full_html=False,
        default_height="450px",
        validate=False,
    )


def write_script(folder: Path) -> None:
    """Put plotly.js, as the installed plotly carries it, beside the pages."""
    script = require("plotly.offline", package="plotly").get_plotlyjs()
    (folder / "plotly.min.js").write_text(script, encoding="utf-8")


def add_pictures(notebook: Any, width: int = 760, height: int = 480) -> None:
    """Put a PNG beside every Plotly output, and drop Plotly data too large to commit.

    Raises:
        OcclabError: there is no Chromium or Chrome to draw with.
    """
    found = [output["data"] for output in outputs(notebook) if PLOTLY_MIME in output.get("data", {})]
    if not found:
        return
    kaleido = require("kaleido")
    try:
        kaleido.start_sync_server(silence_warnings=True)  # one browser for all of them
        for data in found:
            figure = {"data": data[PLOTLY_MIME]["data"], "layout": data[PLOTLY_MIME]["layout"]}
            shape = {"width": figure["layout"].get("width", width), "height": figure["layout"].get("height", height)}
            data["image/png"] = b64encode(kaleido.calc_fig_sync(figure, opts={"format": "png", "scale": 1, **shape})).decode()
            if size(figure) > LARGEST_FIGURE:
                del data[PLOTLY_MIME]
    except RuntimeError as error:  # kaleido's ChromeNotFoundError is one
        raise OcclabError(f"no picture of a figure could be drawn; install Chromium or Chrome ({error})") from error
    finally:
        kaleido.stop_sync_server(silence_warnings=True)


def drop_progress_bars(notebook: Any) -> None:
    """Drop the bars of long work: they say nothing once it is done, and are dead without Python behind them."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _is_progress_bar(output)]


def _is_progress_bar(output: Any) -> bool:
    data = output.get("data", {})
    text = (
        data.get("text/plain", "") if WIDGET_MIME in data else output.get("text", "") if output.get("name") == "stderr" else ""
    )
    return bool(re.search(r"\d+%\|", text))


def clean(notebook: Any) -> None:
    """Drop what differs from machine to machine: progress bars, widget state, timings, versions."""
    drop_progress_bars(notebook)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        for output in cell.get("outputs", []):  # without its state a widget is an error message; its text stays
            output.get("data", {}).pop(WIDGET_MIME, None)
        cell.metadata = {key: value for key, value in cell.metadata.items() if key in ("tags", "jupyter")}
