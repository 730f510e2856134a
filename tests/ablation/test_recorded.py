"""The sweeps that ship are whole, come from the designs that ship, and say where they were made."""

import json
from pathlib import Path

import pytest

from occlab import OcclabError
from occlab.ablation import COLUMNS, read_design, recorded, recorded_about, recorded_table, write_table
from occlab.ablation.recorded import TABLES

DESIGNS = Path(__file__).parents[2] / "notebooks" / "designs"
NAMES = sorted(path.stem for path in TABLES.glob("*.csv"))


@pytest.mark.parametrize("name", NAMES)
def test_a_table_has_every_run_of_its_design_and_its_provenance(name):
    design, rows, about = read_design(DESIGNS / f"{name}.yaml"), recorded_table(name), recorded_about(name)
    assert {(row["arm"], row["seed"]) for row in rows} == {(arm.name, seed) for arm in design.arms for seed in design.seeds}
    assert about["design"] == (DESIGNS / f"{name}.yaml").read_text()
    assert about["runs"] == len(rows)
    assert len(about["commit"].rstrip("+")) == 40
    assert about["device"]
    assert about["torch"]


def test_an_unknown_table_is_told_from_those_there_are():
    with pytest.raises(OcclabError, match="no recorded table named 'six_fixes'; there are: "):
        recorded_table("six_fixes")


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """A folder of tables with one of one run."""
    monkeypatch.setattr(recorded, "TABLES", tmp_path)
    about = {"arm": "base", "seed": 0, "group": "", "status": "done"}
    write_table([dict.fromkeys(COLUMNS) | about], tmp_path / "small.csv", design="seeds: 1\n")
    return tmp_path


def test_a_table_that_lost_runs_is_one_sentence(tables):
    assert len(recorded_table("small")) == recorded_about("small")["runs"] == 1
    path = tables / "small.about.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"runs": 2}))
    with pytest.raises(OcclabError, match=r"small\.csv: expected 2 runs, as small\.about\.json says, got 1"):
        recorded_table("small")


@pytest.mark.parametrize("text", [None, "{", "[]", "{}"])
def test_a_table_of_unknown_origin_is_one_sentence(tables, text):
    path = tables / "small.about.json"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(OcclabError, match=r"small\.about\.json: expected") as caught:
        recorded_about("small")
    assert "\n" not in str(caught.value)
