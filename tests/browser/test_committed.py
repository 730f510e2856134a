"""Every notebook of the course in a real JupyterLab, as it is committed: all its figures are there, and nothing is broken."""

import base64
from pathlib import Path

import cv2
import nbformat
import numpy as np
import pytest
from faults import faults
from lab import open_notebook

from occlab import pages

PATHS = sorted((Path(__file__).parents[2] / "notebooks").glob("[0-9]*.ipynb"))

LINE = {"type": "scatter", "mode": "lines", "x": [0, 1, 2], "y": [1, 3, 2]}
CLOUD = {"type": "scatter3d", "mode": "markers", "x": [0, 1, 2], "y": [0, 2, 1], "z": [1, 0, 2]}
NOWHERE = {"type": "scatter3d", "mode": "markers", "x": [], "y": [], "z": []}
GAPS = {"type": "scatter", "mode": "lines", "x": [0, 1], "y": [None, None]}


def figure(*traces, **layout):
    return {pages.PLOTLY_MIME: {"data": list(traces), "layout": {"height": 300, **layout}}}


def png(picture):
    return base64.b64encode(cv2.imencode(".png", picture)[1].tobytes()).decode()


NOISE = png(np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8))
WHITE = png(np.full((60, 90, 3), 255, np.uint8))

SOUND = [
    figure(LINE),
    figure(CLOUD),
    figure(LINE, CLOUD, scene={"domain": {"x": [0.5, 1]}}, xaxis={"domain": [0, 0.4]}),
    figure(LINE) | {"image/png": NOISE},
    {"image/png": NOISE},
    {"text/html": "<table><tr><td>1</td></tr></table>"},
]
BROKEN = [
    (figure(GAPS), "a figure shows nothing"),
    (figure(), "a figure shows nothing"),
    (figure(NOWHERE), "a 3-D scene shows nothing"),
    (
        figure(CLOUD, NOWHERE | {"scene": "scene2"}, scene={"domain": {"x": [0, 0.4]}}, scene2={"domain": {"x": [0.6, 1]}}),
        "a 3-D",
    ),
    (figure(LINE) | {"image/png": WHITE}, "a picture of 1 colours"),
    ({"image/png": WHITE}, "a picture of 1 colours"),
    ({"image/png": NOISE[:40]}, "is broken"),
    ({"text/html": "<img src='absent.png' alt='a street'>"}, "the image 'a street' is broken"),
    ({pages.WIDGET_MIME: {"model_id": "0" * 32, "version_major": 2, "version_minor": 0}}, "its outputs were not shown"),
    ({"text/html": "<div style='width: 2000px'>wide</div>"}, "wide"),
    (
        {"text/html": "<div style='height: 90px; overflow: auto'><p style='height: 400px'>tall</p></div>"},
        "a scroll bar of its own",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_all_that_a_notebook_shows_is_there(path, page, lab):
    for _ in range(2):  # a fault is what is there twice: a busy machine draws late, and a page that is left may cry out
        open_notebook(page, lab, f"notebooks/{path.name}")
        page.script_errors.clear()
        found = faults(page)
        if not found:
            break
    assert found == []


def notebook_of(shown):
    """A notebook with one cell for each output."""
    cells = [nbformat.v4.new_code_cell("1", outputs=[nbformat.v4.new_output("display_data", data=data)]) for data in shown]
    notebook = nbformat.v4.new_notebook(cells=cells)
    pages.clean(notebook)  # names the kernel, else JupyterLab asks for one
    for cell, data in zip(notebook.cells, shown, strict=True):
        cell.outputs[0].data = data  # with the widgets that it took out
    return notebook


@pytest.mark.slow
def test_what_is_broken_is_found_and_what_is_sound_is_not(course, page, lab):
    pages.write(notebook_of([*SOUND, *(data for data, _ in BROKEN)]), course / "broken.ipynb")
    open_notebook(page, lab, "broken.ipynb")
    found = faults(page)
    of_cell = [[fault for fault in found if fault.startswith(f"cell {i}: ")] for i in range(len(SOUND) + len(BROKEN))]
    assert of_cell[: len(SOUND)] == [[]] * len(SOUND)
    for (_, expected), told in zip(BROKEN, of_cell[len(SOUND) :], strict=True):
        assert any(expected in fault for fault in told), (expected, told)


@pytest.mark.slow
def test_a_lost_context_is_found(course, page, lab):
    pages.write(notebook_of([figure(CLOUD)]), course / "lost.ipynb")
    open_notebook(page, lab, "lost.ipynb")
    assert faults(page) == []
    scene = "document.querySelector('.jp-RenderedPlotly')._fullLayout.scene._scene.glplot"
    before = page.evaluate("seen.lost()")
    page.evaluate(f"() => {scene}.gl.getExtension('WEBGL_lose_context').loseContext()")
    page.wait_for_function("before => seen.lost() > before", arg=before)
