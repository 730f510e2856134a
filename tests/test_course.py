"""Executing a small course of notebooks made here: what is written, what is printed, what happens when a cell fails."""

import re
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import nbformat
import pytest

from occlab import course, pages
from occlab.cli import main
from occlab.course import collect, execute, find_notebooks, refresh, run_course
from occlab.errors import OcclabError


def notebook(path, *cells):
    """Cells: code as text, prose as text that starts with '# ' or '['."""
    made = [
        nbformat.v4.new_markdown_cell(text) if text.startswith(("# ", "[")) else nbformat.v4.new_code_cell(text)
        for text in cells
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=made), path)
    return path


RECORD = """
import numpy as np
from occlab.course import record
record(plateau=np.float32(1.1962), floor=1.19315, steps=150)
"""


def make_course(folder):
    folder.mkdir()
    notebook(folder / "00_first.ipynb", "# First", "print('twelve' * 2)", "[next](01_second.ipynb)")
    notebook(folder / "01_second.ipynb", "# Second", RECORD)
    notebook(folder / "draft.ipynb", "raise RuntimeError('drafts are not run')")
    return folder


@dataclass
class Executed:
    out: Path
    printed: str
    before: dict[Path, bytes]


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A course of two notebooks, run once."""
    base = tmp_path_factory.mktemp("course")
    folder = make_course(base / "notebooks")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with redirect_stdout(StringIO()) as printed:
        assert run_course(folder, base / "out")
    return Executed(base / "out", printed.getvalue(), before)


def test_course_runs_in_order_and_ends_with_the_table(executed):
    printed = executed.printed
    assert printed.index("00_first") < printed.index("01_second") < printed.index("plateau")
    assert "cell  1/1" in printed
    table = dict(re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in printed.partition("\n\n")[2].splitlines())
    assert table["plateau"] == "1.196"
    assert table["floor"] == "1.193"
    assert table["steps"] == "150"
    assert table["executed notebooks"] == f"{executed.out}/"


def test_each_notebook_becomes_a_file_and_a_page(executed):
    written = sorted(path.name for path in executed.out.iterdir())
    assert written == ["00_first.html", "00_first.ipynb", "01_second.html", "01_second.ipynb", "plotly.min.js"]
    assert "twelvetwelve" in (executed.out / "00_first.html").read_text()


def test_recorded_numbers_come_back_as_numbers(executed):
    values = collect(executed.out / "01_second.ipynb")
    assert values == {"plateau": pytest.approx(1.1962), "floor": 1.19315, "steps": 150}
    assert isinstance(values["steps"], int)
    assert collect(executed.out / "00_first.ipynb") == {}


def test_the_notebooks_themselves_are_left_alone(executed):
    for path, content in executed.before.items():
        assert path.read_bytes() == content


def test_failed_cell_stops_the_course_and_keeps_what_ran(tmp_path, capsys):
    folder, out = tmp_path / "notebooks", tmp_path / "out"
    folder.mkdir()
    notebook(folder / "00_a.ipynb", "# A", "print('before')", "# Where it breaks", "1 / 0", "print('after')")
    notebook(folder / "01_b.ipynb", "print('never')")
    with pytest.raises(SystemExit) as left:
        main(["course", "--notebooks", str(folder), "--output", str(out)])
    assert left.value.code == 1
    printed = capsys.readouterr().out
    assert "stopped in 00_a.ipynb, code cell 2, under 'Where it breaks'" in printed
    assert "ZeroDivisionError: division by zero" in printed
    assert "\x1b[" not in printed
    kept = list(pages.outputs(pages.read(out / "00_a.ipynb")))
    assert [output.output_type for output in kept] == ["stream", "error"]
    assert "before" in (out / "00_a.html").read_text()
    assert not (out / "01_b.ipynb").exists()


def test_dead_kernel_is_told_apart_from_an_error(tmp_path):
    path = notebook(tmp_path / "00_a.ipynb", "import os\nos._exit(1)")
    _, failure = execute(path, lambda *_: None)
    assert failure.cell == 1
    assert "died" in str(failure)


def test_progress_counts_code_cells_only(tmp_path):
    path = notebook(tmp_path / "00_a.ipynb", "# A", "a = 1", "# B", "a + 1")
    seen = []
    _, failure = execute(path, lambda *step: seen.append(step))
    assert failure is None
    assert seen == [(1, 2, False), (1, 2, True), (2, 2, False), (2, 2, True)]


def test_notebooks_run_in_their_own_folder(tmp_path):
    (tmp_path / "beside.txt").write_text("found")
    done, _ = execute(notebook(tmp_path / "00_a.ipynb", "print(open('beside.txt').read())"), lambda *_: None)
    assert done.cells[0].outputs[0].text == "found\n"


def test_empty_folder_is_one_sentence(tmp_path, capsys):
    with pytest.raises(OcclabError, match="no notebook named like"):
        find_notebooks(tmp_path)
    with pytest.raises(SystemExit) as left:
        main(["course", "--notebooks", str(tmp_path)])
    assert left.value.code == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_file_that_is_no_notebook_is_one_sentence(tmp_path):
    (tmp_path / "00_a.ipynb").write_text("{}")
    with pytest.raises(OcclabError, match=r"00_a\.ipynb is not a notebook"):
        collect(tmp_path / "00_a.ipynb")


def test_refresh_writes_in_place_without_traces_of_the_machine(tmp_path):
    small_course = make_course(tmp_path / "notebooks")
    path = small_course / "01_second.ipynb"
    assert refresh(small_course, only="01")
    done = pages.read(path)
    assert collect(path)["steps"] == 150
    assert done.cells[1].execution_count == 1
    assert set(done.metadata) == {"kernelspec", "language_info"}
    assert "version" not in done.metadata.language_info
    assert all(not cell.metadata for cell in done.cells)
    assert pages.read(small_course / "00_first.ipynb").cells[1].execution_count is None


def test_refresh_leaves_a_failing_or_oversized_notebook_as_it_was(tmp_path, capsys, monkeypatch):
    failing = notebook(tmp_path / "00_a.ipynb", "raise ValueError('no')")
    large = notebook(tmp_path / "01_b.ipynb", "print('x' * 10_000)")
    before = failing.read_bytes(), large.read_bytes()
    assert not refresh(tmp_path, only="00")
    monkeypatch.setattr(course, "LARGEST_NOTEBOOK", 5_000)
    assert not refresh(tmp_path, only="01")
    assert (failing.read_bytes(), large.read_bytes()) == before
    assert "left as it was" in capsys.readouterr().out
