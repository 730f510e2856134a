"""Every notebook of the course in a real JupyterLab, as it is committed: all its figures are there."""

from pathlib import Path

import pytest
from faults import faults
from lab import open_notebook

PATHS = sorted((Path(__file__).parents[2] / "notebooks").glob("[0-9]*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_all_that_a_notebook_shows_is_there(path, page, lab):
    open_notebook(page, lab, f"notebooks/{path.name}")
    assert faults(page) == []
