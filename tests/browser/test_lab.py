"""The first notebook in a real JupyterLab, and a page of the course without a network, in a real browser."""

import shutil
from pathlib import Path

import nbformat
import pytest
from lab import BROWSER, browser_page, camera_eye, drag, jupyterlab, open_notebook, run_all, scene_pixels, scroll_to_scene

from occlab import pages

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "00_start_here.ipynb"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not BROWSER, reason="no Chromium or Chrome here: apt-get install chromium"),
]


def assert_drawn_and_turns(page) -> None:
    drawn = scene_pixels(page)
    assert drawn["pixels"] > 50_000
    assert drawn["colours"] > 20, "the 3-D scene is one flat colour"
    before = camera_eye(page)
    drag(page)
    assert max(abs(a - b) for a, b in zip(before, camera_eye(page), strict=True)) > 0.1, "dragging did not turn the scene"


@pytest.mark.slow
def test_first_notebook_runs_and_its_scene_turns(tmp_path):
    work = tmp_path / "work"
    shutil.copytree(NOTEBOOK.parent, work / "notebooks", ignore=shutil.ignore_patterns(".*"))
    samples = NOTEBOOK.parents[1] / "data_samples"
    if samples.is_dir():
        (work / "data_samples").symlink_to(samples)
    notebook = pages.read(NOTEBOOK)
    for cell in notebook.cells:  # so that nothing seen below is left over from the committed file
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    pages.write(notebook, work / "notebooks" / NOTEBOOK.name)

    settings = tmp_path / "settings"
    with jupyterlab(work, settings, OCCLAB_PROFILE="tiny") as address, browser_page() as page:
        open_notebook(page, address, f"notebooks/{NOTEBOOK.name}")
        page.wait_for_timeout(2_000)  # JupyterLab checks its build only now
        assert page.locator(".jp-Dialog").count() == 0, "a dialog lies over the first page that a learner sees"
        finished, outputs = run_all(page)
        errors = [f"{output['ename']}: {output['evalue']}" for output in outputs if output["output_type"] == "error"]
        assert not errors
        assert finished
        scroll_to_scene(page)
        page.screenshot(path=tmp_path / "lab.png")
        assert_drawn_and_turns(page)
        page.screenshot(path=tmp_path / "lab_turned.png")


def test_page_draws_its_scene_without_a_network(tmp_path):
    heights = [[(x * y) % 7 for x in range(12)] for y in range(12)]
    figure = {"data": [{"type": "surface", "z": heights}], "layout": {"height": 400}}
    shown = nbformat.v4.new_output("display_data", data={pages.PLOTLY_MIME: figure})
    cell = nbformat.v4.new_code_cell("show()", execution_count=1, outputs=[shown])
    pages.write_script(tmp_path)
    pages.write_page(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "00_a.html")
    asked = []
    with browser_page() as page:
        page.on("request", lambda request: asked.append(request.url))
        page.goto((tmp_path / "00_a.html").as_uri())
        scroll_to_scene(page)
        assert_drawn_and_turns(page)
        assert page.script_errors == []
    assert {url for url in asked if not url.startswith(("file:", "data:", "blob:"))} == set()
