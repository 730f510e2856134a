"""Notebooks that are run in a real JupyterLab, and a page of the course without a network, in a real browser."""

import re

import nbformat
import pytest
from lab import camera_eye, drag, new_page, open_notebook, run_all, scene_pixels, scroll_to_scene

from occlab import pages


def assert_drawn_and_turns(page) -> None:
    drawn = scene_pixels(page)
    assert drawn["pixels"] > 50_000
    assert drawn["colours"] > 20, "the 3-D scene is one flat colour"
    before = camera_eye(page)
    drag(page, page.locator(".js-plotly-plot").first)
    assert max(abs(a - b) for a, b in zip(before, camera_eye(page), strict=True)) > 0.1, "dragging did not turn the scene"


def open_empty_and_run(page, lab, course, name) -> None:
    """Run a notebook whose outputs were taken out: nothing that is seen is left over from the committed file."""
    notebook = pages.read(course / "notebooks" / name)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    (course / "run").mkdir(exist_ok=True)
    pages.write(notebook, course / "run" / name)
    open_notebook(page, lab, f"run/{name}")
    finished, outputs = run_all(page)
    errors = [f"{output['ename']}: {output['evalue']}" for output in outputs if output["output_type"] == "error"]
    assert not errors
    assert finished


@pytest.mark.slow
def test_first_notebook_runs_and_its_scene_turns(page, lab, course, tmp_path):
    open_empty_and_run(page, lab, course, "00_start_here.ipynb")
    assert page.locator(".jp-Dialog").count() == 0, "a dialog lies over the first page that a learner sees"
    scroll_to_scene(page)
    page.screenshot(path=tmp_path / "lab.png")
    assert_drawn_and_turns(page)
    page.screenshot(path=tmp_path / "lab_turned.png")


@pytest.mark.slow
def test_a_folder_is_chosen_by_clicking(page, lab, course):
    open_empty_and_run(page, lab, course, "11_your_own_data.ipynb")
    folders = page.get_by_label("folders")
    folders.scroll_into_view_if_needed()
    page.get_by_text("data_samples: occlab frames, 4 in all").first.wait_for()
    folders.select_option("runs")
    page.get_by_text(re.compile("^runs: ")).wait_for()
    folders.select_option(label="\N{UPWARDS ARROW} one folder up")
    page.get_by_text("data_samples: occlab frames, 4 in all").first.wait_for()
    assert page.script_errors == []


def test_page_draws_its_scene_without_a_network(browser, tmp_path):
    heights = [[(x * y) % 7 for x in range(12)] for y in range(12)]
    figure = {"data": [{"type": "surface", "z": heights}], "layout": {"height": 400}}
    shown = nbformat.v4.new_output("display_data", data={pages.PLOTLY_MIME: figure})
    cell = nbformat.v4.new_code_cell("show()", execution_count=1, outputs=[shown])
    pages.write_script(tmp_path)
    pages.write_page(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "00_a.html")
    asked = []
    page = new_page(browser)
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "00_a.html").as_uri())
    scroll_to_scene(page)
    assert_drawn_and_turns(page)
    assert page.script_errors == []
    page.close()
    assert {url for url in asked if not url.startswith(("file:", "data:", "blob:"))} == set()
