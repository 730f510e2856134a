"""One JupyterLab and one browser for all these tests: each takes seconds to start."""

import shutil
from pathlib import Path

import pytest
from lab import BROWSER, browser_page, jupyterlab

REPOSITORY = Path(__file__).parents[2]


def pytest_collection_modifyitems(items):
    here = [item for item in items if Path(item.fspath).parent == Path(__file__).parent]
    for item in here:
        item.add_marker(pytest.mark.browser)
        item.add_marker(pytest.mark.skipif(not BROWSER, reason="no Chromium or Chrome here: apt-get install chromium"))


@pytest.fixture(scope="package")
def course(tmp_path_factory):
    """A copy of what a reader has: the notebooks, and the sample frames beside them."""
    root = tmp_path_factory.mktemp("course")
    shutil.copytree(REPOSITORY / "notebooks", root / "notebooks", ignore=shutil.ignore_patterns(".*"))
    (root / "data_samples").symlink_to(REPOSITORY / "data_samples")
    return root


@pytest.fixture(scope="package")
def lab(course, tmp_path_factory):
    """The address of a JupyterLab over the copy, at profile tiny."""
    with jupyterlab(course, tmp_path_factory.mktemp("settings"), OCCLAB_PROFILE="tiny") as address:
        yield address


@pytest.fixture(scope="package")
def browser_tab():
    with browser_page() as page:
        yield page


@pytest.fixture
def page(browser_tab):
    """The browser's page, its errors forgotten."""
    browser_tab.script_errors.clear()
    browser_tab.set_viewport_size({"width": 1280, "height": 720})
    return browser_tab
