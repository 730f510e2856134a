"""Tables that read back as they were written, and what is said about arms."""

import json
import statistics
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from occlab import OcclabError
from occlab.ablation import (
    COLUMNS,
    Design,
    compare,
    compare_arms,
    corrected,
    effects_of,
    for_each,
    full_factorial,
    one_change,
    read_table,
    summary_of_arms,
    write_table,
)

VALUES = {
    float: st.floats(allow_nan=False, allow_infinity=False),
    int: st.integers(0, 2**53),
    bool: st.booleans(),
    str: st.text(st.characters(exclude_categories=["C"]), min_size=1),
}
ANY_ROW = st.fixed_dictionaries(
    {
        name: VALUES[kind] if name in ("arm", "group", "seed", "status") else st.none() | VALUES[kind]
        for name, kind in COLUMNS.items()
    }
)


def row(arm, seed, group="", against=None, **measures):
    about = {"arm": arm, "seed": seed, "group": group, "against": against, "status": "done", "attempts": 1}
    return dict.fromkeys(COLUMNS) | about | measures


def made(design, measure):
    """Rows of a design by a function of arm and seed; where it says None the run failed."""
    rows = []
    for seed in design.seeds:
        for arm in design.arms:
            value = measure(arm, seed)
            status = {"status": "failed", "error": "lost"} if value is None else {}
            rows.append(row(arm.name, seed, arm.group, arm.against, held_out_iou=value, settled_loss=value, **status))
    return rows


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_round_trip_is_exact(tmp_path_factory, ending):
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path_factory.mktemp("tables") / f"table.{ending}"

    @settings(max_examples=30, deadline=None)
    @given(st.lists(ANY_ROW, max_size=4))
    def check(rows):
        write_table(rows, path, command="x")
        ordered = [{name: r[name] for name in COLUMNS} for r in rows]
        assert repr(read_table(path)) == repr(ordered)  # repr: 0.0 and -0.0 differ

    check()


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_pandas_reads_the_same_numbers(tmp_path, ending):
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    rows = [row("base", seed, settled_loss=float(rng.random()) / 3, on_floor=True) for seed in range(20)]
    path = tmp_path / f"table.{ending}"
    write_table(rows, path)
    frame = pandas.read_csv(path) if ending == "csv" else pandas.read_parquet(path)
    assert frame["settled_loss"].tolist() == [r["settled_loss"] for r in rows]
    assert frame["seed"].tolist() == list(range(20))


def test_beside_the_table_stands_where_it_comes_from(tmp_path):
    write_table([row("base", 0)], tmp_path / "table.csv", design="seeds: 1\n", command="occlab ablate design.yaml")
    about = json.loads((tmp_path / "table.about.json").read_text())
    assert (about["command"], about["design"], about["runs"]) == ("occlab ablate design.yaml", "seeds: 1\n", 1)
    assert {"commit", "device", "torch", "occlab", "date"} <= about.keys()


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def lose_a_cell(path):
    head, line = path.read_text().splitlines()
    path.write_text(f"{head}\n{line.rpartition(',')[0]}\n")


def write_a_word(path):
    path.write_text(path.read_text().replace("0.25", "a quarter"))


def write_another_table(path):
    path.write_text("a,b\n1,2\n")


def write_bytes(path):
    path.write_bytes(b"\xff\xfe\x00\x01" * 40)


def lose_the_arm(path):
    path.write_text(path.read_text().replace("base", ""))


def write_a_book(path):
    path.write_text(path.read_text().replace("base", "base" * 50_000))


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("ending", "damage", "says"),
    [
        ("csv", cut, "cut short"),
        ("csv", lose_a_cell, r"line 2: expected a run in \d+ columns"),
        ("csv", write_a_word, "line 2.*settled_loss must be a number, got 'a quarter'"),
        ("csv", write_another_table, "expected the columns arm, group.*got a, b"),
        ("csv", write_bytes, "expected a table of runs as CSV"),
        ("csv", lose_the_arm, "line 2: .*every run has its arm"),
        ("csv", write_a_book, "expected a table of runs as CSV"),
        ("csv", empty, "got none"),
        ("parquet", cut, "expected a table of runs as Parquet"),
        ("parquet", write_bytes, "expected a table of runs as Parquet"),
        ("parquet", empty, "expected a table of runs as Parquet"),
    ],
)
def test_a_damaged_table_is_one_sentence(tmp_path, ending, damage, says):
    path = tmp_path / f"table.{ending}"
    write_table([row("base", 0, settled_loss=0.25, hash="0123456789ab")], path)
    damage(path)
    with pytest.raises(OcclabError, match=says) as caught:
        read_table(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_line_ends_in_a_cell_do_not_end_the_line(tmp_path):
    rows = [row("base", 0, status="failed", error="one\ntwo")]
    write_table(rows, tmp_path / "table.csv")
    assert read_table(tmp_path / "table.csv") == rows
    write_table([rows[0] | {"error": "one\rtwo\r\nthree"}], tmp_path / "table.csv")
    assert read_table(tmp_path / "table.csv")[0]["error"] == "one\ntwo\nthree"


def test_other_files_are_refused(tmp_path):
    for path in (tmp_path / "table.xlsx", tmp_path / "table"):
        with pytest.raises(OcclabError, match=r"\.csv or \.parquet"):
            write_table([], path)
    with pytest.raises(OcclabError, match=r"missing\.csv"):
        read_table(tmp_path / "missing.csv")
    with pytest.raises(OcclabError, match=r"missing\.parquet"):
        read_table(tmp_path / "missing.parquet")


def test_a_missing_pyarrow_is_one_sentence(tmp_path, monkeypatch):
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(OcclabError, match=r"pyarrow could not be imported .*pip install 'occlab\[sweep\]'"):
        write_table([], tmp_path / "table.parquet")
    assert not list(tmp_path.iterdir())


def test_summary_of_arms():
    losses = [1.25, 1.5, 1.0]
    rows = [row("base", seed, settled_loss=loss, half_floor=1.0) for seed, loss in enumerate(losses)]
    rows += [row("other", 0, against="base", settled_loss=2.0), row("other", 1, against="base", status="failed")]
    base, other = summary_of_arms(rows)
    assert (base["arm"], base["n"], base["failed"], base["held_out_iou"]) == ("base", 3, 0, None)
    assert base["settled_loss"] == {"mean": 1.25, "sd": statistics.stdev(losses), "min": 1.0, "max": 1.5}
    assert (other["n"], other["failed"], other["against"]) == (1, 1, "base")
    assert other["settled_loss"] == {"mean": 2.0, "sd": None, "min": 2.0, "max": 2.0}


FACTORS = {"A": {"learning_rate": 1e-3}, "B": {"clip_norm": 1.0}}


def noise(arm, seed):
    return np.random.default_rng([seed, *arm.name.encode()]).normal(0, 0.01)


def test_arms_are_compared_with_their_own_yardstick_and_corrected_within_their_group():
    arms = for_each({"head": ["rectified", "logits"]}, one_change(FACTORS))
    design = Design(tuple(arms), tuple(range(10)))
    rows = made(design, lambda arm, seed: noise(arm, seed) + (arm.name == "head=logits: A") + 0.3 * seed)
    found = compare_arms(rows, "held_out_iou", True)
    values = {arm.name: {r["seed"]: r["held_out_iou"] for r in rows if r["arm"] == arm.name} for arm in arms}
    for head in ("rectified", "logits"):
        names = {f"head={head}: {name}" for name in "AB"}
        alone = {name: compare(values[f"head={head}: base"], values[name], higher_is_better=True) for name in names}
        assert {name: found[name] for name in names} == corrected(alone)
    assert len(found) == 4
    assert found["head=logits: A"].verdict == "better"
    assert {c.verdict for name, c in found.items() if name != "head=logits: A"} == {"no difference shown"}
    assert compare_arms(rows, "settled_loss", False)["head=logits: A"].verdict == "worse"


def test_failed_runs_are_dropped_and_said_so():
    design = Design(tuple(one_change(FACTORS)), tuple(range(8)))
    rows = made(design, lambda arm, seed: None if (arm.name, seed) == ("A", 3) else noise(arm, seed))
    assert compare_arms(rows, "held_out_iou", True)["A"].dropped == (3,)


def test_a_missing_yardstick_is_one_sentence():
    with pytest.raises(OcclabError, match="no run of arm 'base'"):
        compare_arms([row("A", 0, against="base", held_out_iou=0.5)], "held_out_iou", True)


def test_effects_of_each_group_and_of_the_whole():
    arms = for_each({"head": ["rectified", "logits"]}, full_factorial(FACTORS))

    def measure(arm, seed):
        a, b, head = (arm.levels[name] for name in ("A", "B", "head"))
        return noise(arm, seed) + head + 2 * a * head + 0.25 * b

    design = Design(tuple(arms), tuple(range(12)))
    found = effects_of(design, made(design, measure), "held_out_iou", True)
    by_group = {group: {e.name: e.comparison.difference for e in effects} for group, effects in found.items()}
    near = lambda **values: pytest.approx({name.replace("_x_", " x "): v for name, v in values.items()}, abs=0.02)  # noqa: E731
    assert by_group["head=rectified"] == near(A=0, B=0.25, A_x_B=0)
    assert by_group["head=logits"] == near(A=2, B=0.25, A_x_B=0)
    assert by_group["all"] == near(head=2, A=1, B=0.25, head_x_A=1, head_x_B=0, A_x_B=0)
    verdicts = {e.name: e.comparison.verdict for e in found["all"]}
    assert verdicts["head x A"] == "better"
    assert verdicts["A x B"] == "no difference shown"
    assert all(e.comparison.adjusted_p >= e.comparison.p for e in found["all"])


def test_what_is_no_two_level_factorial_has_no_effects():
    for arms in (one_change(FACTORS), full_factorial({"clip_norm": [0.1, 1.0, 10.0]})):
        design = Design(tuple(arms), (0,))
        assert effects_of(design, made(design, noise), "held_out_iou", True) == {}


def test_effects_of_a_sweep_with_an_arm_missing_have_no_verdict():
    design = Design(tuple(full_factorial(FACTORS)), tuple(range(8)))
    rows = [r for r in made(design, noise) if r["arm"] != "A"]
    effects = effects_of(replace(design), rows, "held_out_iou", True)[""]
    assert {e.comparison.verdict for e in effects} == {"too few seeds"}
