"""The sweeps that ship are whole, come from the designs that ship, and say where they were made."""

from pathlib import Path

import pytest

from occlab import OcclabError
from occlab.ablation import read_design, recorded_about, recorded_table
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
