"""Runs side by side: what they are called, what is paired with what, and what a person sees who chooses, pins and brushes."""

import html
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from occlab import OcclabError
from occlab.ablation import by_arm, compare, compare_arms, effects_of, read_design, read_table, recorded_table, write_table
from occlab.diagnosis import HALF
from occlab.frames import read_frames
from occlab.settings import PROFILES
from occlab.training import TrainConfig, preset
from occlab.training.config import to_dict
from occlab.viz.dark import PAPER
from occlab.viz.theme import CYCLE, DASHES
from occlab.workbench import run_table
from occlab.workbench.compare import NO_RUNS, VIEWS, Compare
from occlab.workbench.design_effects import MEASURE_WORDS, findings, largest, read
from occlab.workbench.desk import Desk

TINY = PROFILES["tiny"]
CURVES, TABLE, PARALLEL, EFFECTS = VIEWS
HOSTILE = "<img src=x onerror=alert(1)>"


def summary(settled, iou, *, floor=None, half=1.19):
    """As much of a summary as a row of a table takes."""
    scores = {"iou": iou, "best_iou": iou, "average_precision": iou}
    return {
        "first_loss": 1.35,
        "settled_loss": settled,
        "reduction": 0.1,
        "floor": half,
        "floor_name": floor or HALF,
        "on_floor": floor is not None,
        "gradient_norm_min": 0.1,
        "gradient_norm_max": 0.2,
        "clipped_share": 0.0,
        "ladder": {HALF: half},
        "probability": {"min": 0.5, "mean": 0.5, "std": 0.0},
        "training": scores,
        "held_out": {
            **{f"{kind}_statistics": scores for kind in ("batch", "running")},
            "trivial": {"the input itself": scores},
        },
        "seconds": 1.0,
        "device": "cpu",
    }


def write_run(root, name, config, losses=(1.3, 1.2), *, made=None, prints=("a", "b"), **more):
    """A run's folder, as training writes it, without weights."""
    folder = root / name
    folder.mkdir(parents=True)
    groups = {group: [{"name": group, "fingerprint": p}] for group, p in zip(("frames", "held_out"), prints, strict=True)}
    (folder / "config.json").write_text(json.dumps({"config": to_dict(config), **groups, **more}))
    ones = dict.fromkeys(("clip_coefficient", "update_ratio", "lr", "time"), 1.0)
    lines = [
        json.dumps({"step": i, "loss": loss, "iou": loss / 10, "grad_norm": 0.1 * i, **ones})
        for i, loss in enumerate(losses, 1)
    ]
    (folder / "scalars.json").write_text("\n".join(lines) + "\n")
    if made is not None:
        (folder / "summary.json").write_text(json.dumps(made))
    return folder


@pytest.fixture
def root(tmp_path):
    return tmp_path / "runs"


@pytest.fixture
def desk(root):
    made = Desk(root)
    yield made
    made.close()


@pytest.fixture
def settle(desk):
    """Let the threads end, and take what they found."""

    def all_of_them():
        for thread in list(desk._threads):
            thread.join(60)
        desk.pump()
        assert desk.error == ("", ""), desk.error[1]

    return all_of_them


def config(seed=0, **changes):
    return preset("as-it-stood", TINY, seed=seed, steps=20, **changes)


@pytest.fixture
def seven(root):
    """Two configurations with seven seeds each; with logits the IoU is higher by 0.1 and a little more."""
    gains = [0.1 + 0.01 * seed for seed in range(7)]
    for seed in range(7):
        write_run(root, f"a-{seed}", config(seed), (1.3, 1.2 + seed / 100), made=summary(1.2, 0.01, floor=HALF))
        write_run(
            root, f"b-{seed}", config(seed, head="logits"), (1.2, 0.6), made=summary(0.6 + seed / 100, 0.01 + gains[seed])
        )
    return gains


def rows_of(desk):
    return run_table.table(desk.runs())


# --- the table --------------------------------------------------------------------------------------------------------


def test_a_run_is_named_by_what_it_does_differently():
    assert run_table.in_words(config()) == "as it stood"
    assert run_table.in_words(preset("repaired", TINY)) == "head logits, learning rate 1e-3"
    assert run_table.in_words(config(learning_rate=2e-4)) == "learning rate 0.0002"  # no level of the knob
    assert run_table.in_words(config(learning_rate=1.0, clip_norm=None)) == "clipping norm none, learning rate 1"
    assert run_table.in_words(config(flip=True, zero_last=True)) == "flips, zero last"
    assert run_table.in_words(preset("recommended", TINY.for_recipe())) == "recommended"
    many = config(flip=True, zero_last=True, targets="hard", head="logits", init="kaiming", rotation=5.0)
    assert run_table.in_words(many).endswith("2 more")


def test_seeds_share_a_name_and_anything_else_has_its_own(root, desk):
    base = config()
    write_run(root, "a-1", base)
    write_run(root, "a-2", replace(base, seed=1, snapshot_steps=(0, 1)))
    write_run(root, "a-3", base, prints=("other", "frames"))
    write_run(root, "a-4", base, rates_by_hand=[{"after_step": 1, "learning_rate": 0.1}], run="a")
    write_run(root, "a-5", replace(base, steps=30))
    names = {row.folder.name: row.name for row in rows_of(desk)}
    assert names["a-1"] == names["a-2"]
    assert len(set(names.values())) == 4
    assert "rate moved by hand" in names["a-4"]
    assert names["a-5"] == "as it stood, 30 steps"  # only what is unusual is said


def test_no_two_runs_are_listed_alike(root, desk):
    for name in ("a-1", "a-2", "b-1"):
        write_run(root, name, config(3 if name != "b-1" else 4), made=summary(1.2, 0.25, floor=HALF, half=1.25))
    labels = [row.label for row in rows_of(desk)]
    assert len(set(labels)) == len(labels) == 3
    assert sum("run 2" in label for label in labels) == 1


def test_a_row_has_what_the_run_says_and_none_where_it_says_nothing(root, desk):
    write_run(root, "done", config(3), made=summary(1.2, 0.25, floor=HALF, half=1.25))
    write_run(root, "begun", config(4), (1.3,))
    write_run(root, "odd", config(5), made=[1, 2])
    rows = {row.folder.name: row for row in rows_of(desk)}
    done = rows["done"]
    assert (done.seed, done.steps, done.state) == (3, 2, "finished")
    assert (done.settled_loss, done.half, done.floor, done.floor_name) == (1.2, 1.25, 1.25, HALF)
    assert (done.held_out_iou, done.training_iou) == (0.25, 0.25)
    assert done.floor_distance == pytest.approx(-0.04)
    assert rows["begun"].state == "begun"
    assert "not finished" in rows["begun"].label
    for row in (rows["begun"], rows["odd"]):
        assert {row.settled_loss, row.floor, row.half, row.held_out_iou, row.floor_distance} == {None}


def test_what_cannot_be_said_below_a_half_is_no_floor_of_an_output_that_can(root, desk):
    for head in ("rectified", "logits"):
        write_run(root, head, config(head=head), made=summary(1.2, 0.1, floor="mean map, p >= 1/2"))
    rows = {row.folder.name: row for row in rows_of(desk)}
    assert rows["rectified"].floor == 1.19
    assert rows["logits"].floor is None


def test_curves_are_one_a_configuration_and_end_with_its_shortest_run(root, desk):
    write_run(root, "a-0", config(0), (3.0, 2.0, 1.0))
    write_run(root, "a-1", config(1), (5.0, 4.0))
    write_run(root, "b-0", config(0, head="logits"), (1.0, 0.5, 0.2, 0.1))
    drawn = run_table.curves(rows_of(desk), "loss")
    steps, losses = drawn["as it stood"]
    np.testing.assert_array_equal(steps, [1, 2])
    np.testing.assert_array_equal(losses, [[3.0, 2.0], [5.0, 4.0]])
    np.testing.assert_array_equal(drawn["head logits"][1], [1.0, 0.5, 0.2, 0.1])
    np.testing.assert_allclose(run_table.curves(rows_of(desk), "grad_norm")["head logits"][1], [0.1, 0.2, 0.3, 0.4])


def test_an_unfinished_run_borrows_the_floor_of_one_with_its_loss_and_frames(root, desk):
    write_run(root, "done", config(0), made=summary(1.2, 0.1, half=1.18))
    write_run(root, "same", config(1))
    write_run(root, "other-loss", config(0, loss=replace(TrainConfig().loss, dice=1.0)))
    write_run(root, "other-frames", config(0), prints=("c", "d"))
    rows = {row.folder.name: row for row in rows_of(desk)}
    everything = list(rows.values())
    assert run_table.floors([rows["same"]], everything) == {HALF: 1.18}
    assert run_table.floors([rows["other-loss"]], everything) == {}
    assert run_table.floors([rows["other-frames"]], everything) == {}


def test_floors_of_different_losses_are_told_apart(root, desk):
    write_run(root, "a", config(), made=summary(1.2, 0.1, half=1.18))
    write_run(root, "b", config(head="logits"), made=summary(1.2, 0.1, half=1.1801))  # the same to three digits
    write_run(root, "c", config(loss=replace(TrainConfig().loss, dice=1.0)), made=summary(1.7, 0.1, half=1.68))
    found = run_table.floors(rows_of(desk))
    assert sorted(round(value, 2) for value in found.values()) == [1.18, 1.68]
    assert all(name.startswith(f"{HALF}<br>") for name in found)


def test_pairs_are_of_one_seed_and_judged_as_the_library_does(desk, seven):
    rows = {row.folder.name: row for row in rows_of(desk)}
    found = run_table.against(rows["a-0"], list(rows.values()), ["head logits", "as it stood"], "held_out_iou")
    assert list(found) == ["head logits"]
    judged = found["head logits"]
    assert judged.n == 7
    assert judged.difference == pytest.approx(np.mean(seven))
    assert (judged.verdict, judged.p) == ("better", pytest.approx(2 / 2**7))
    alone = compare([0.01] * 7, [0.01 + gain for gain in seven], higher_is_better=True)
    assert (judged.low, judged.high) == (pytest.approx(alone.low), pytest.approx(alone.high))
    loss = run_table.against(rows["a-0"], list(rows.values()), ["head logits"], "floor_distance")["head logits"]
    assert loss.difference == pytest.approx((0.63 - 1.2) / 1.19)
    assert loss.verdict == "better"  # of losses the lower one


def test_seeds_that_only_one_side_has_are_left_out_without_being_held_against_it(root, desk, seven):
    for seed in range(7, 9):
        write_run(root, f"b-{seed}", config(seed, head="logits"), made=summary(0.6, 0.9))
    rows = {row.folder.name: row for row in rows_of(desk)}
    judged = run_table.against(rows["a-0"], list(rows.values()), ["head logits"], "held_out_iou")["head logits"]
    assert (judged.n, judged.dropped, judged.verdict) == (7, (), "better")


def test_what_cannot_be_paired_says_why(root, desk):
    write_run(root, "a", config(0), made=summary(1.2, 0.1))
    write_run(root, "few", config(0, head="logits"), made=summary(0.6, 0.2))
    write_run(root, "frames", config(0, flip=True), made=summary(0.6, 0.2), prints=("c", "d"))
    write_run(root, "begun", config(0, targets="hard"))
    rows = {row.folder.name: row for row in rows_of(desk)}
    names = [row.name for row in rows.values()]
    found = run_table.against(rows["a"], list(rows.values()), names, "held_out_iou")
    few = found["head logits"]
    assert (few.verdict, few.n, few.difference) == ("too few seeds", 1, pytest.approx(0.1))
    assert few.reason.startswith("1 of the 6 pairs needed")
    assert "other frames" in found["flips"]
    assert found["targets hard"] == "no run of it is finished"
    assert "reference" in run_table.against(rows["begun"], list(rows.values()), ["as it stood"], "held_out_iou")["as it stood"]


def test_the_table_to_take_away_is_a_sweep_s(root, desk, seven, tmp_path):
    write_run(root, "c-0", config(0, flip=True), (1.3, 1.2))
    write_run(root, "a-0-2", config(0), made=summary(1.2, 0.9))  # the same run once more
    made = run_table.sweep_rows(rows_of(desk))
    write_table(made, tmp_path / "runs.csv", command="test")
    rows = read_table(tmp_path / "runs.csv")
    assert rows == made
    by_name = by_arm(rows, "held_out_iou")
    assert by_name["head logits"] == pytest.approx({seed: 0.01 + gain for seed, gain in enumerate(seven)})
    assert {name for name in by_name if name.startswith("as it stood")} == {"as it stood", "as it stood, run 2"}
    begun = next(row for row in rows if row["arm"] == "flips")
    assert (begun["status"], begun["error"]) == ("failed", "not finished: 2 of 20 steps")
    assert json.loads(next(row for row in rows if row["arm"] == "head logits")["changes"])["model.head"] == "logits"


# --- the tab ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def tab(desk, seven):
    made = Compare(desk)
    made.show()
    return made


def traces(tab):
    return {trace.name: trace for trace in tab._curves.figure.data if trace.name}


def turn(tab, view, settle):
    tab.view.value = view
    settle()


def test_without_runs_it_says_so(desk, settle):
    tab = Compare(desk)
    for view in (CURVES, TABLE, PARALLEL):
        turn(tab, view, settle)
    tab.show()
    settle()
    assert tab._note.value == html.escape(NO_RUNS)
    assert tab.chosen() == []


def test_the_last_two_are_chosen_and_drawn_and_nothing_is_before_it_is_shown(desk, seven):
    tab = Compare(desk)
    assert tab._curves.figure is None
    tab.show()
    assert [row.folder for row in tab.chosen()] == [run.folder for run in desk.runs()[:2]]
    assert len(traces(tab)) == 2 - (len({row.name for row in tab.chosen()}) == 1)


def test_choosing_changes_the_one_figure_there_is(tab, root):
    figure = tab._curves.figure
    tab.choose([root / "a-0", root / "b-0"])
    assert {name: trace.y.tolist() for name, trace in traces(tab).items()} == {
        "as it stood": pytest.approx([1.3, 1.2]),
        "head logits": pytest.approx([1.2, 0.6]),
    }
    assert [(t.line.color, t.line.dash) for t in tab._curves.figure.data] == list(zip(CYCLE[:2], DASHES[:2], strict=True))
    assert [note.text for note in figure.layout.annotations] == [f"{HALF} 1.19"]
    tab.curve.value = "iou"
    assert traces(tab)["as it stood"].y == pytest.approx([0.13, 0.12])
    assert (figure.layout.annotations, figure.layout.shapes) == ((), ())  # floors are losses
    tab.curve.value = "grad_norm"
    assert figure.layout.yaxis.type == "log"
    tab.curve.value = "loss"
    assert figure.layout.yaxis.type != "log"
    assert tab._curves.figure is figure


def test_seeds_of_one_configuration_are_a_mean_with_a_band(tab, root):
    tab.choose([root / f"a-{seed}" for seed in range(7)])
    low, high, mean = tab._curves.figure.data
    assert mean.name == "as it stood (7 seeds)"
    assert (low.y[1], mean.y[1], high.y[1]) == pytest.approx((1.20, 1.23, 1.26))
    assert high.fill == "tonexty"


def test_pinning_is_told_to_everybody_and_gives_the_differences(tab, desk, root, settle, seven):
    told = []
    desk.on("reference", lambda: told.append(desk.reference))
    tab.choose([root / "a-0", root / "b-0"])
    turn(tab, TABLE, settle)
    assert "Pin a run as the reference" in tab._against.value
    assert tab._differences.widget.layout.display == "none"
    tab.reference.value = root / "a-0"
    settle()
    assert told == [root / "a-0"]
    assert "<td>better</td>" in tab._judged.value
    marks = next(trace for trace in tab._differences.figure.data if trace.mode == "markers" and trace.text)
    assert marks.x == pytest.approx([np.mean(seven)])
    tab.choose([root / "b-0"])  # the reference need not be among the chosen ones
    settle()
    assert "<td>better</td>" in tab._judged.value
    tab.reference.value = ""
    settle()
    assert desk.reference is None
    assert "Pin a run" in tab._against.value


def test_another_tab_may_pin_a_run_that_is_not_chosen(tab, desk, root, settle):
    tab.choose([root / "b-0"])
    desk.reference = root / "a-3"
    desk.tell("reference")
    settle()
    assert tab.reference.value == root / "a-3"


def test_the_table_is_a_table_with_headers_of_columns(tab, root, settle):
    tab.choose([root / "a-0"])
    turn(tab, TABLE, settle)
    said = tab._table.value
    assert said.count('<th scope="col">') == 9
    assert "<td>as it stood</td>" in said
    assert f"<td>{html.escape(HALF)}</td>" in said  # what it stopped on
    assert "<td class=number>1.2</td>" in said


def test_a_name_from_a_file_becomes_no_tag(root, desk, settle):
    for seed in range(2):
        hostile = config(seed, custom_keys={HOSTILE: {"lr_mult": 2.0}})
        write_run(root, f"x-{seed}", hostile, made=summary(1.2, 0.1, floor=HOSTILE))
    write_run(root, "a-0", config(), made=summary(1.2, 0.1))
    tab = Compare(desk)
    tab.show()
    tab.choose(desk.runs() and [run.folder for run in desk.runs()])
    tab.reference.value = root / "a-0"
    for view in VIEWS:
        turn(tab, view, settle)
    figures = [tab._curves.figure, tab._differences.figure, tab._parallel.figure]
    for text in (tab._table.value, tab._judged.value, *(figure.to_json() for figure in figures)):
        assert "<img" not in text
    assert "&lt;img" in tab._table.value
    assert "&lt;img" in tab._curves.figure.to_json()


def test_a_training_in_hand_draws_itself_on_while_it_is_chosen_and_seen(store, desk, seven, settle, until):
    frames = read_frames(store)
    desk.set_up(config=config(99), frames=frames[:2], held_out=frames[2:])
    tab = Compare(desk)
    tab.show()
    session = desk.new_session()
    session.step(4)
    assert session.wait(60)
    desk.pump()
    row = next(row for row in tab.chosen() if row.folder == session.folder)
    assert traces(tab)[row.name].y == pytest.approx([step.loss for step in session.steps], rel=1e-6)
    session.step(2)
    assert session.wait(60)
    desk.pump()
    assert len(traces(tab)[row.name].y) == 6
    tab.hide()
    session.step(2)
    assert session.wait(60)
    desk.pump()
    assert len(traces(tab)[row.name].y) == 6
    tab.show()
    assert len(traces(tab)[row.name].y) == 8


def test_a_choice_made_by_hand_stays_when_runs_come_and_go(tab, desk, root):
    tab.runs.value = (root / "a-1", root / "b-1")
    write_run(root, "new-0", config(0, flip=True), made=summary(1.2, 0.1))
    desk.tell("runs")
    assert {row.folder.name for row in tab.chosen()} == {"a-1", "b-1"}
    assert len(tab.runs.options) == 15
    (root / "a-1" / "scalars.json").unlink()
    desk.tell("runs")
    assert {row.folder.name for row in tab.chosen()} == {"b-1"}


def test_a_brush_narrows_the_list_and_clearing_widens_it_again(tab, root, settle):
    turn(tab, PARALLEL, settle)
    figure = tab._parallel.figure
    axes = {axis.label: axis for axis in figure.data[0].dimensions}
    assert set(axes) == {"head", "seed", *run_table.RESULTS}
    axes["IoU, held out"].constraintrange = [0.155, 1.0]
    assert {folder.name for _, folder in tab.runs.options} == {"b-5", "b-6"}
    assert {row.folder.name for row in tab.chosen()} <= {"b-5", "b-6"}
    assert tab._parallel.figure is figure
    assert tuple(axes["IoU, held out"].constraintrange) == (0.155, 1.0)  # drawing again did not take it away
    tab.clear.click()
    assert len(tab.runs.options) == 14
    assert axes["IoU, held out"].constraintrange is None


def test_a_new_run_takes_the_brushes_away(tab, desk, root, settle):
    turn(tab, PARALLEL, settle)
    tab._parallel.figure.data[0].dimensions[-1].constraintrange = [0.155, 1.0]
    assert len(tab.runs.options) == 2
    write_run(root, "new-0", config(0, flip=True), made=summary(1.2, 0.5))
    desk.tell("runs")
    assert len(tab.runs.options) == 15
    assert "flips" in [axis.label for axis in tab._parallel.figure.data[0].dimensions]
    tab._parallel.figure.data[0].dimensions[-1].constraintrange = [0.4, 1.0]  # and can be brushed as before
    assert [folder.name for _, folder in tab.runs.options] == ["new-0"]


def test_a_dark_page_paints_the_figures(tab, desk, root):
    light = tab._curves.figure.layout.template.layout.paper_bgcolor
    desk.dark = True
    desk.tell("theme")
    dark = tab._curves.figure.layout.template.layout.paper_bgcolor
    assert (light, dark) == ("#FFFFFF", PAPER)
    desk.dark = False
    desk.tell("theme")
    assert tab._curves.figure.layout.template.layout.paper_bgcolor == light


def test_every_control_says_what_it_is_for(tab):
    controls = [tab.runs, tab.reference, tab.measure, tab.clear]
    controls += [tab.effects.source, tab.effects.path, tab.effects.measure, tab.effects.group]
    assert all(control.tooltip for control in controls)
    assert len(tab.view.tooltips) == len(tab.view.options)
    assert len(tab.curve.tooltips) == len(tab.curve.options)


# --- the effects of a design ------------------------------------------------------------------------------------------


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
    tab = Compare(desk)
    tab.show()
    turn(tab, EFFECTS, settle)
    view = tab.effects
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
    tab = Compare(desk)
    tab.show()
    turn(tab, EFFECTS, settle)
    tab.effects.source.value = "five_fixes"
    settle()
    everything = tab.effects._table.value
    tab.effects.group.value = "head=logits"
    assert "head=rectified" in everything
    named = tab.effects._table.value.partition("</details>")[0]
    assert "head=rectified" not in named
    assert named.count("<tr>") == 1 + 5


def test_a_file_that_is_no_table_is_one_sentence_and_the_view_goes_on(desk, tmp_path, settle):
    tab = Compare(desk)
    tab.show()
    turn(tab, EFFECTS, settle)
    (tmp_path / "bad.csv").write_text("a,b\n<b>1</b>,2\n")
    for path, sentence in (
        (tmp_path / "bad.csv", "expected the columns"),
        (tmp_path / "none.csv", "expected a table of runs"),
        (tmp_path / "x.txt", "must end with .csv or .parquet"),
    ):
        tab.effects.path.value = str(path)
        settle()
        assert sentence in tab.effects._note.value
        assert tab.effects._figure.widget.layout.display == "none"
    tab.effects.path.value = ""
    tab.effects.measure.value = "training_iou"
    settle()
    assert "runs of" in tab.effects._note.value


def test_a_damaged_note_beside_a_table_is_no_design(root, desk, seven, tmp_path):
    write_table(run_table.sweep_rows(rows_of(desk)), tmp_path / "t.csv", command="test")
    (tmp_path / "t.about.json").write_text("[]")
    rows, design = read(tmp_path / "t.csv")
    assert (len(rows), design) == (14, None)
    with pytest.raises(OcclabError, match="no recorded table named"):
        read("nothing")
