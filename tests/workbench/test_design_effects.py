"""The effects of a design: what a table of its runs says, and the view of them in the Compare tab."""

from pathlib import Path

import numpy as np
import pytest
from written_runs import rows_of

from occlab import OcclabError
from occlab.ablation import compare_arms, effects_of, read_design, recorded_table, write_table
from occlab.workbench import run_table
from occlab.workbench.compare import VIEWS, Compare
from occlab.workbench.design_effects import MEASURE_WORDS, findings, largest, read

*_, EFFECTS = VIEWS


@pytest.fixture
def desk(make_desk):
    return make_desk()


def opened(desk, settle):
    """The view, as a person comes to it."""
    tab = Compare(desk)
    tab.show()
    tab.view.value = EFFECTS
    settle()
    return tab.effects


def test_effects_of_the_recorded_factorial_are_those_of_its_design():
    found = findings(*read("factorial"), "held_out_iou")
    design = read_design(Path(__file__).parents[2] / "notebooks" / "designs" / "factorial.yaml")
    expected = effects_of(design, recorded_table("factorial"), "held_out_iou", True)
    assert found.factorial
    of_logits = {effect.name: effect.comparison for effect in expected["head=logits"]}
    judged = {name.partition(" = ")[0]: groups for name, groups in found.judged.items()}  # without what it is aliased with
    assert {name: groups["head=logits"] for name, groups in judged.items() if "head=logits" in groups} == of_logits
    over_both = {name for name, groups in judged.items() if "all" in groups}
    assert over_both == {effect.name for effect in expected["all"] if "head" in effect.factors}
    assert len(found.arms) == len(design.arms)


def test_without_a_factorial_each_arm_stands_against_its_own_yardstick():
    found = findings(*read("five_fixes"), "held_out_iou")
    expected = compare_arms(recorded_table("five_fixes"), "held_out_iou", True)
    assert not found.factorial
    assert found.judged["depth"]["head=logits"] == expected["head=logits: depth"]
    assert sum(map(len, found.judged.values())) == len(expected)


def test_the_largest_come_first_and_as_many_as_there_is_room_for():
    judged = findings(*read("five_fixes"), "held_out_iou").judged
    sizes = [max(abs(c.difference) for c in groups.values()) for groups in largest(judged, 10_000).values()]
    assert sizes == sorted(sizes, reverse=True)
    assert len(sizes) == 5
    assert list(largest(judged, 4 * 54)) == list(largest(judged, 10_000))[:4]


def test_the_view_offers_recorded_tables_and_those_on_the_disk(desk, seven, tmp_path, settle):
    made = [
        row | {"against": None if row["arm"] == "as it stood" else "as it stood"} for row in run_table.sweep_rows(rows_of(desk))
    ]
    write_table(made, tmp_path / "designs" / "mine.csv", command="test")
    view = opened(desk, settle)
    offered = dict(view.source.options)
    assert {"recorded: claims", "recorded: factorial", "recorded: five_fixes"} < set(offered)
    assert "runs of" in view._note.value
    view.source.value = offered["designs/mine.csv"]
    settle()
    assert view._note.value.startswith("14 runs of 2 arms.")
    marks = next(trace for trace in view._figure.figure.data if trace.mode == "markers" and trace.text)
    assert marks.x == pytest.approx([np.mean(seven)])
    assert "<td>better</td>" in view._table.value
    figure = view._figure.figure
    view.measure.value = "floor_distance"
    settle()
    assert view._figure.figure is figure
    assert figure.layout.xaxis.title.text == MEASURE_WORDS["floor_distance"].partition(" (")[0]


def test_one_group_can_be_looked_at_alone(desk, settle):
    view = opened(desk, settle)
    view.source.value = "five_fixes"
    settle()
    everything = view._table.value
    view.group.value = "head=logits"
    assert "head=rectified" in everything
    named = view._table.value.partition("</details>")[0]
    assert "head=rectified" not in named
    assert named.count("<tr>") == 1 + 5


def test_a_file_that_is_no_table_is_one_sentence_and_the_view_goes_on(desk, tmp_path, settle):
    view = opened(desk, settle)
    (tmp_path / "bad.csv").write_text("a,b\n<b>1</b>,2\n")
    for path, sentence in (
        (tmp_path / "bad.csv", "expected the columns"),
        (tmp_path / "none.csv", "expected a table of runs"),
        (tmp_path / "x.txt", "must end with .csv or .parquet"),
    ):
        view.path.value = str(path)
        settle()
        assert sentence in view._note.value
        assert view._figure.widget.layout.display == "none"
    view.path.value = str(tmp_path / "none.csv")
    view.path.value = "~nobody-of-this-name/t.csv"  # before the answer of the one before
    settle()
    assert "there is no home of that name here" in view._note.value
    view.path.value = ""
    view.measure.value = "training_iou"
    settle()
    assert "runs of" in view._note.value


def test_what_was_chosen_last_is_shown_a_file_or_one_of_the_list(desk, seven, tmp_path, settle):
    write_table(run_table.sweep_rows(rows_of(desk)), tmp_path / "mine.csv", command="test")
    view = opened(desk, settle)
    recorded = view._note.value
    view.path.value = str(tmp_path / "mine.csv")
    settle()
    assert view._note.value.startswith("14 runs of")
    view.source.value = "five_fixes"
    settle()
    assert view.path.value == ""
    assert not view._note.value.startswith("14 runs of")
    view.path.value = str(tmp_path / "mine.csv")
    settle()
    view.path.value = ""
    view.source.value = "claims"
    settle()
    assert view._note.value == recorded


def test_what_was_chosen_before_a_file_was_typed_can_be_chosen_again(desk, seven, tmp_path, settle):
    write_table(run_table.sweep_rows(rows_of(desk)), tmp_path / "mine.csv", command="test")
    view = opened(desk, settle)
    recorded, index = view._note.value, view.source.index
    view.path.value = str(tmp_path / "mine.csv")
    view.show()
    settle()
    assert view._note.value.startswith("14 runs of")
    view.source.set_state({"index": index})  # as the page has it said
    settle()
    assert (view.path.value, view._note.value) == ("", recorded)
    view.path.value = str(tmp_path / "mine.csv")
    view.path.value = ""
    settle()
    assert (view.source.index, view._note.value) == (index, recorded)


def test_a_table_that_grows_is_read_again_and_another_is_not(desk, seven, tmp_path, settle):
    rows = run_table.sweep_rows(rows_of(desk))
    path = tmp_path / "designs" / "mine.csv"
    write_table(rows[:6], path, command="test")
    view = opened(desk, settle)
    view.source.value = path
    settle()
    assert view._note.value.startswith("6 runs of")
    write_table(rows, path, command="test")
    view.show()
    settle()
    assert view._note.value.startswith("14 runs of")
    asked = view._asked
    view.show()
    assert view._asked == asked


def test_a_damaged_note_beside_a_table_is_no_design(root, desk, seven, tmp_path):
    write_table(run_table.sweep_rows(rows_of(desk)), tmp_path / "t.csv", command="test")
    (tmp_path / "t.about.json").write_text("[]")
    rows, design = read(tmp_path / "t.csv")
    assert (len(rows), design) == (14, None)
    with pytest.raises(OcclabError, match="no recorded table named"):
        read("nothing")
