"""Pages that draw without a network, and notebooks fit to commit."""

import re
import shutil
from base64 import b64decode

import nbformat
import pytest

from occlab import pages

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))), None)
FIGURE = {
    "data": [{"type": "scatter", "y": [1, 3, 2], "name": "a </script> in a name"}],
    "layout": {"title": {"text": "three"}, "height": 300},
}


def with_outputs(*bundles, markdown=""):
    outputs = [nbformat.v4.new_output("display_data", data=bundle) for bundle in bundles]
    code = nbformat.v4.new_code_cell("show()", execution_count=1, outputs=outputs)
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(markdown), code])


def page(notebook, folder):
    pages.write_page(notebook, folder / "00_a.html")
    return (folder / "00_a.html").read_text()


def test_page_holds_the_live_figure_and_shares_one_script(tmp_path):
    html = page(with_outputs({pages.PLOTLY_MIME: FIGURE}), tmp_path)
    assert html.count('src="plotly.min.js"') == 1
    assert "Plotly.newPlot" in html
    assert len(html) < 500_000  # the script is 5 MB


def test_page_asks_no_other_server_for_anything(tmp_path):
    html = page(with_outputs({pages.PLOTLY_MIME: FIGURE}, {"text/plain": "x"}), tmp_path)
    fetched = re.findall(r"""(?:src|href)=["'](https?:[^"']+)|import\(["'](https?:[^"']+)|url\(["']?(https?:[^"')]+)""", html)
    assert not fetched
    assert "require" not in html.lower().replace("required", "")


def test_live_controls_become_a_hint(tmp_path):
    html = page(with_outputs({pages.WIDGET_MIME: {"model_id": "f00"}, "text/plain": "IntSlider(value=0)"}), tmp_path)
    assert "make lab" in html
    assert "IntSlider(" not in html


def test_links_between_notebooks_become_links_between_pages(tmp_path):
    html = page(with_outputs(markdown="[next](01_dead_head.ipynb) [data](../data_samples/README.md)"), tmp_path)
    assert 'href="01_dead_head.html"' in html
    assert 'href="../data_samples/README.md"' in html


def test_writing_a_page_does_not_change_the_notebook(tmp_path):
    notebook = with_outputs({pages.PLOTLY_MIME: FIGURE})
    page(notebook, tmp_path)
    assert notebook.cells[1].outputs[0].data[pages.PLOTLY_MIME] == FIGURE


def test_clean_keeps_ids_counts_outputs_and_tags():
    notebook = with_outputs({"text/plain": "7", "application/vnd.jupyter.widget-view+json": {"model_id": "0"}})
    notebook.metadata.widgets = {"application/vnd.jupyter.widget-state+json": {}}
    notebook.cells[1].metadata = {"execution": {"iopub.status.busy": "2026"}, "tags": ["raises-exception"]}
    identity = [cell.id for cell in notebook.cells]
    pages.clean(notebook)
    nbformat.validate(notebook)
    assert "widgets" not in notebook.metadata
    assert notebook.cells[1].metadata == {"tags": ["raises-exception"]}
    assert [cell.id for cell in notebook.cells] == identity
    assert notebook.cells[1].execution_count == 1
    assert notebook.cells[1].outputs[0].data == {"text/plain": "7"}


@pytest.mark.browser
@pytest.mark.skipif(not BROWSER, reason="no Chromium or Chrome here: apt-get install chromium")
def test_pictures_lie_beside_small_figures_and_replace_large_ones(monkeypatch):
    monkeypatch.setattr(pages, "LARGEST_FIGURE", 5_000)
    large = {"data": [{"type": "scatter", "y": list(range(3_000))}], "layout": {}}
    notebook = with_outputs({pages.PLOTLY_MIME: FIGURE}, {pages.PLOTLY_MIME: large})
    pages.add_pictures(notebook)
    small, replaced = (output.data for output in pages.outputs(notebook))
    assert set(small) == {pages.PLOTLY_MIME, "image/png"}
    assert set(replaced) == {"image/png"}
    png = b64decode(small["image/png"])
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(png[20:24]) == 300  # the figure's own height
