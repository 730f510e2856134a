"""What every notebook of the course has in common: its shape, and that it is fit to be committed and read on a host."""

import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest

from occlab.ablation import recorded_table, scorecard, summary_of_arms
from occlab.course import LARGEST_NOTEBOOK, collect
from occlab.pages import PLOTLY_MIME

FOLDER = Path(__file__).parents[1] / "notebooks"
PATHS = sorted(FOLDER.glob("*.ipynb"))
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|root|home|tmp|Users|var/folders)/\w|[A-Z]:\\\\Users")
THREE_D = {"mesh3d", "scatter3d", "surface", "volume", "isosurface", "cone"}
MOST_SCENES = 6  # a browser keeps 16 WebGL contexts a page, and plotly takes more than one for a scene

every_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def prose(notebook) -> str:
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook):
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def headings(text: str) -> list[tuple[int, str]]:
    """(level, text) of each heading, those inside code fences left out."""
    text = re.sub(r"^(```|~~~).*?^\1", "", text, flags=re.MULTILINE | re.DOTALL)
    return [(len(marks), title.strip()) for marks, title in re.findall(r"^(#{1,6}) +(.+)$", text, re.MULTILINE)]


def first_cell(notebook, pattern: str, kind: str = "markdown") -> int | None:
    """Index of the first cell in which the pattern is found, upper and lower case alike."""
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == kind and re.search(pattern, cell.source, re.IGNORECASE | re.MULTILINE):
            return index
    return None


def test_there_is_a_course():
    assert PATHS, f"no notebook in {FOLDER.name}/"


def test_numbers_run_from_zero_without_a_gap():
    assert [int(path.name[:2]) for path in PATHS] == list(range(len(PATHS)))


def test_the_plateau_is_the_floor_and_a_free_output_goes_below_it():
    values = collect(next(path for path in PATHS if path.name.startswith("02_")))
    assert 1.185 < values["plateau"] < 1.205
    assert values["plateau"] == pytest.approx(values["floor"], rel=0.01)
    assert values["floor_name"] == "p = 1/2 everywhere"
    assert values["free_output"] < values["plateau"] - 0.02


def test_the_readme_quotes_the_notebook():
    values = collect(next(path for path in PATHS if path.name.startswith("02_")))
    readme = (FOLDER.parent / "README.md").read_text()
    for name in ("floor", "free_output"):
        assert f"{values[name]:.3f}" in readme, name
    settled = [float(x) for x in re.search(r"\| settled loss \| ([\d.]+) \| ([\d.]+) \| ([\d.]+)", readme).groups()]
    assert sum(settled) / 3 == pytest.approx(values["plateau"], abs=0.001)


def test_the_readme_quotes_the_record():
    readme = (FOLDER.parent / "README.md").read_text()
    table = [line.split(" | ") for line in readme.partition("| each alone, six seeds")[2].splitlines()[2:8]]
    arms = {arm["arm"]: arm for arm in summary_of_arms(recorded_table("five_fixes"))}
    names = ("base", "learning rate", "clipping", "focal loss", "initialisation", "depth")
    for cells, name in zip(table, names, strict=True):
        stood, free = (arms[f"head={head}: {name}"] for head in ("rectified", "logits"))
        measured = (stood["settled_loss"], stood["half_floor"], stood["held_out_iou"], free["held_out_iou"])
        assert [cell.strip(" |") for cell in cells[1:]] == [f"{value['mean']:.3f}" for value in measured], name


def test_the_readme_quotes_the_scorecard():
    claims = scorecard(recorded_table("five_fixes"), recorded_table("claims"))
    verdicts = Counter((claim.head, claim.verdict) for claim in claims if claim.kind == "proposal")
    stood, free = ([verdicts[head, v] for v in ("supported", "refuted", "not decided")] for head in ("rectified", "logits"))
    assert stood[0] == 0
    readme = " ".join((FOLDER.parent / "README.md").read_text().split())
    assert f"support none on the network as it stood ({stood[1]} refuted, {stood[2]} not decided), and {free[0]} once" in readme


# --- shape ----------------------------------------------------------------------------------------------------------


@every_notebook
def test_is_valid_and_small(path):
    nbformat.validate(read(path))
    assert path.stat().st_size < LARGEST_NOTEBOOK


@every_notebook
def test_one_title_first_and_headings_in_order(path):
    notebook = read(path)
    found = headings(prose(notebook))
    assert notebook.cells[0].source.startswith("# ")
    assert [level for level, _ in found].count(1) == 1
    for (above, _), (level, title) in pairwise(found):
        assert level <= above + 1, f"{title!r} skips a level"


@every_notebook
def test_opens_with_what_you_will_be_able_to_do_and_a_time(path):
    opening = "\n".join(cell.source for cell in read(path).cells[:3] if cell.cell_type == "markdown")
    assert re.search(r"you will (be able|know|see)|you can then", opening, re.IGNORECASE)
    assert re.search(r"\b\d+\s*(to \d+\s*)?(s|min|minutes?|seconds?)\b", opening), "say how long it takes"


@every_notebook
def test_asks_for_a_prediction_before_it_shows_results(path):
    notebook = read(path)
    asked = first_cell(notebook, r"^#+ .*predict|\*\*[^*]*predict[^*]*\*\*")
    assert asked is not None, "no heading or bold text asks to predict"
    results = [
        i for i, cell in enumerate(notebook.cells) if any(PLOTLY_MIME in o.get("data", {}) for o in cell.get("outputs", []))
    ]
    assert not results or asked < results[-1], "it asks after the last figure was shown"
    checked = first_cell(notebook, r"^\s*assert ", "code")
    assert checked is not None
    assert asked < checked, "it asks after the answer was checked"


@every_notebook
def test_checks_itself(path):
    """A heading or bold "Check", and a code cell after it that asserts."""
    notebook = read(path)
    heading = first_cell(notebook, r"^#+ .*\bcheck|\*\*[^*]*\bcheck[^*]*\*\*")
    assert heading is not None, "no heading or bold text says Check"
    after = "\n".join(cell.source for cell in notebook.cells[heading:] if cell.cell_type == "code")
    assert re.search(r"^\s*assert ", after, re.MULTILINE)


@every_notebook
def test_ends_with_what_was_learned_and_a_folded_solution(path):
    notebook = read(path)
    learned = first_cell(notebook, r"^#+ .*what (was|you) learned|^#+ .*what we learned")
    assert learned is not None
    assert learned > len(notebook.cells) / 2
    text = prose(notebook)
    assert re.search(r"^#+ .*exercise", text, re.IGNORECASE | re.MULTILINE)
    assert text.count("<details>") == text.count("</details>") >= 1
    assert re.search(r"<summary>.*solution.*</summary>", text, re.IGNORECASE)


@every_notebook
def test_links_lead_somewhere(path):
    text = prose(read(path))
    at = PATHS.index(path)
    for neighbour in PATHS[max(at - 1, 0) : at] + PATHS[at + 1 : at + 2]:
        assert f"({neighbour.name})" in text, f"no link to {neighbour.name}"
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not re.match(r"[a-z]+:", target):
            assert (FOLDER / target).exists(), f"dead link {target}"


@every_notebook
def test_pictures_have_a_text(path):
    text = prose(read(path))
    assert not re.search(r"!\[\s*\]\(", text), "an image without alternative text"
    for tag in re.findall(r"<img [^>]*>", text):
        assert re.search(r'alt="[^"]+"', tag), tag


# --- outputs --------------------------------------------------------------------------------------------------------


@every_notebook
def test_was_run_in_order_from_a_fresh_kernel(path):
    cells = code_cells(read(path))
    assert cells
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert any(cell.outputs for cell in cells)


@every_notebook
def test_outputs_hold_no_error_and_no_warning(path):
    for output in outputs(read(path)):
        assert output.output_type != "error", output.get("evalue")
        assert output.get("name") != "stderr", output.get("text", "")[:300]
        text = output.get("text", "") + str(output.get("data", {}).get("text/plain", ""))
        assert "Warning" not in text, text[:300]


@every_notebook
def test_every_figure_has_its_picture(path):
    for number, output in enumerate(outputs(read(path))):
        data = output.get("data", {})
        if PLOTLY_MIME in data:
            assert "image/png" in data, f"output {number}: make notebooks puts one there"


@every_notebook
def test_few_enough_live_scenes(path):
    figures = [output.data[PLOTLY_MIME] for output in outputs(read(path)) if PLOTLY_MIME in output.get("data", {})]
    scenes = [figure for figure in figures if any(trace.get("type") in THREE_D for trace in figure["data"])]
    assert len(scenes) <= MOST_SCENES


@every_notebook
def test_carries_nothing_of_the_machine(path):
    notebook = read(path)
    assert "widgets" not in notebook.metadata
    assert all("execution" not in cell.metadata for cell in notebook.cells)
    for cell in notebook.cells:
        shown = [cell.source]
        for output in cell.get("outputs", []):
            shown.append(output.get("text", ""))
            shown += [json.dumps(content) for mime, content in output.get("data", {}).items() if not mime.startswith("image/")]
        for text in shown:
            found = MACHINE_PATH.search(re.sub(r'"bdata": "[^"]*"', "", text))
            assert not found, f"a path of this machine: {text[found.start() : found.start() + 60]}"


@every_notebook
def test_figures_are_drawn_with_arrays_that_travel_small(path):
    """An index array of int64 travels as a list of decimal numbers, five times its size."""
    for output in outputs(read(path)):
        for trace in output.get("data", {}).get(PLOTLY_MIME, {}).get("data", []):
            long = [key for key, value in trace.items() if isinstance(value, list) and len(value) > 5_000]
            assert not long, f"{trace.get('type')} trace holds {long} as plain lists: make them int32 or float32 arrays"
