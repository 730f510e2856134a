"""One JupyterLab for all these tests and one browser a file: each takes seconds to start."""

import os
import shutil
from pathlib import Path

import pytest
from lab import BROWSER, headless_browser, jupyterlab, new_page

from occlab.settings import PROFILES, home
from occlab.training import split_frames

REPOSITORY = Path(__file__).parents[2]


def pytest_collection_modifyitems(items):
    here = [item for item in items if Path(item.fspath).parent == Path(__file__).parent]
    for item in here:
        item.add_marker(pytest.mark.browser)
        # Where CI has none, they fail: a green run that has opened no page says nothing.
        absent = not BROWSER and "CI" not in os.environ
        item.add_marker(pytest.mark.skipif(absent, reason="no Chromium or Chrome here: apt-get install chromium"))


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


@pytest.fixture(scope="module")
def browser():
    """Closed with its file: Playwright runs an event loop in this thread, which no other test may find running."""
    with headless_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def lab_page(browser):
    return new_page(browser)


@pytest.fixture
def page(lab_page):
    """The page in which JupyterLab is loaded once, its script errors forgotten."""
    lab_page.script_errors.clear()
    return lab_page


@pytest.fixture(scope="module")
def own_home(tmp_path_factory):
    """Runs of its own; the streets are those that are there already."""
    split_frames(None, PROFILES["tiny"])
    folder = tmp_path_factory.mktemp("home")
    (folder / "frames").symlink_to(home() / "frames")
    return folder


@pytest.fixture(scope="module")
def own_lab(course, own_home, tmp_path_factory):
    settings = tmp_path_factory.mktemp("settings")
    with jupyterlab(course, settings, OCCLAB_PROFILE="tiny", OCCLAB_HOME=str(own_home)) as address:
        yield address
