"""Runs in a table: what they are called, what is paired with what, and what is drawn and taken away of them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from written_runs import TINY, as_it_stood, rows_of, summary, write_run

from occlab.ablation import by_arm, compare, read_table, write_table
from occlab.diagnosis import HALF
from occlab.training import TrainConfig, preset
from occlab.workbench import run_table


@pytest.fixture
def desk(make_desk):
    return make_desk()


def test_a_run_is_named_by_what_it_does_differently():
    assert run_table.in_words(as_it_stood()) == "as it stood"
    assert run_table.in_words(preset("repaired", TINY)) == "head logits, learning rate 1e-3"
    assert run_table.in_words(as_it_stood(learning_rate=2e-4)) == "learning rate 0.0002"  # no level of the knob
    assert run_table.in_words(as_it_stood(learning_rate=1.0, clip_norm=None)) == "clipping norm none, learning rate 1"
    assert run_table.in_words(as_it_stood(flip=True, zero_last=True)) == "flips, zero last"
    assert run_table.in_words(preset("recommended", TINY.for_recipe())) == "recommended"
    many = as_it_stood(flip=True, zero_last=True, targets="hard", head="logits", init="kaiming", rotation=5.0)
    assert run_table.in_words(many).endswith("2 more")


def test_seeds_share_a_name_and_anything_else_has_its_own(root, desk):
    base = as_it_stood()
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
        write_run(root, name, as_it_stood(3 if name != "b-1" else 4), made=summary(1.2, 0.25, floor=HALF, half=1.25))
    labels = [row.label for row in rows_of(desk)]
    assert len(set(labels)) == len(labels) == 3
    assert sum("run 2" in label for label in labels) == 1


def test_a_row_has_what_the_run_says_and_none_where_it_says_nothing(root, desk):
    write_run(root, "done", as_it_stood(3), made=summary(1.2, 0.25, floor=HALF, half=1.25))
    write_run(root, "begun", as_it_stood(4), (1.3,))
    write_run(root, "odd", as_it_stood(5), made=[1, 2])
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
        write_run(root, head, as_it_stood(head=head), made=summary(1.2, 0.1, floor="mean map, p >= 1/2"))
    rows = {row.folder.name: row for row in rows_of(desk)}
    assert rows["rectified"].floor == 1.19
    assert rows["logits"].floor is None


def test_curves_are_one_a_configuration_and_end_with_its_shortest_run(root, desk):
    write_run(root, "a-0", as_it_stood(0), (3.0, 2.0, 1.0))
    write_run(root, "a-1", as_it_stood(1), (5.0, 4.0))
    write_run(root, "b-0", as_it_stood(0, head="logits"), (1.0, 0.5, 0.2, 0.1))
    drawn = run_table.curves(rows_of(desk), "loss")
    steps, losses = drawn["as it stood"]
    np.testing.assert_array_equal(steps, [1, 2])
    np.testing.assert_array_equal(losses, [[3.0, 2.0], [5.0, 4.0]])
    np.testing.assert_array_equal(drawn["head logits"][1], [1.0, 0.5, 0.2, 0.1])
    np.testing.assert_allclose(run_table.curves(rows_of(desk), "grad_norm")["head logits"][1], [0.1, 0.2, 0.3, 0.4])


def test_an_unfinished_run_borrows_the_floor_of_one_with_its_loss_and_frames(root, desk):
    write_run(root, "done", as_it_stood(0), made=summary(1.2, 0.1, half=1.18))
    write_run(root, "same", as_it_stood(1))
    write_run(root, "other-loss", as_it_stood(0, loss=replace(TrainConfig().loss, dice=1.0)))
    write_run(root, "other-frames", as_it_stood(0), prints=("c", "d"))
    rows = {row.folder.name: row for row in rows_of(desk)}
    everything = list(rows.values())
    assert run_table.floors([rows["same"]], everything) == {HALF: 1.18}
    assert run_table.floors([rows["other-loss"]], everything) == {}
    assert run_table.floors([rows["other-frames"]], everything) == {}


def test_floors_of_different_losses_are_told_apart(root, desk):
    write_run(root, "a", as_it_stood(), made=summary(1.2, 0.1, half=1.18))
    write_run(root, "b", as_it_stood(head="logits"), made=summary(1.2, 0.1, half=1.1801))  # the same to three digits
    write_run(root, "c", as_it_stood(loss=replace(TrainConfig().loss, dice=1.0)), made=summary(1.7, 0.1, half=1.68))
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
        write_run(root, f"b-{seed}", as_it_stood(seed, head="logits"), made=summary(0.6, 0.9))
    rows = {row.folder.name: row for row in rows_of(desk)}
    judged = run_table.against(rows["a-0"], list(rows.values()), ["head logits"], "held_out_iou")["head logits"]
    assert (judged.n, judged.dropped, judged.verdict) == (7, (), "better")


def test_what_cannot_be_paired_says_why(root, desk):
    write_run(root, "a", as_it_stood(0), made=summary(1.2, 0.1))
    write_run(root, "few", as_it_stood(0, head="logits"), made=summary(0.6, 0.2))
    write_run(root, "frames", as_it_stood(0, flip=True), made=summary(0.6, 0.2), prints=("c", "d"))
    write_run(root, "begun", as_it_stood(0, targets="hard"))
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
    write_run(root, "c-0", as_it_stood(0, flip=True), (1.3, 1.2))
    write_run(root, "a-0-2", as_it_stood(0), made=summary(1.2, 0.9))  # the same run once more
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
