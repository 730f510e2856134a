"""The same changes on both heads, as the notebooks make them."""

import statistics
import sys
from dataclasses import replace

import pytest

from occlab import OcclabError
from occlab.ablation import loss_curves, on_both_heads, score_rows, score_table
from occlab.ablation.both_heads import moments, slug
from occlab.frames import read_frames
from occlab.settings import PROFILES
from occlab.training import settled

SIZE = replace(PROFILES["tiny"], steps=12)
ARMS = {"as it stood": {}, "rate 1e-3": {"learning_rate": 1e-3}}


@pytest.fixture(scope="module")
def frames(store):
    return read_frames(store)


@pytest.fixture(scope="module")
def runs(frames, tmp_path_factory):
    return on_both_heads(ARMS, SIZE, frames[:2], frames[2:], root=tmp_path_factory.mktemp("runs"))


def test_every_arm_on_every_head_differs_in_what_it_says_only(runs):
    assert list(runs) == ["rectified", "logits"]
    for head, arms in runs.items():
        assert list(arms) == list(ARMS)
        base, fast = arms["as it stood"].config, arms["rate 1e-3"].config
        assert base.model.head == head
        assert fast == replace(base, learning_rate=1e-3)
        assert base.seed == 0


def test_a_run_is_trained_once_and_shared_under_another_name(runs, frames):
    root = runs["logits"]["as it stood"].folder.parent
    again = on_both_heads({"the base": {}}, SIZE, frames[:2], frames[2:], heads=["logits"], root=root)
    assert again["logits"]["the base"].folder == runs["logits"]["as it stood"].folder


def test_snapshots_are_kept_at_the_moments(runs):
    assert tuple(runs["rectified"]["as it stood"].snapshots()) == moments(12)
    assert moments(150)[0] == 0
    assert moments(150)[-1] == 150


def test_curves_and_rows_are_the_runs(runs):
    steps, losses = loss_curves(runs)["logits"]["rate 1e-3"]
    assert steps == list(range(1, 13))
    assert losses == [s.loss for s in runs["logits"]["rate 1e-3"].steps]
    rows = score_rows(runs)
    assert [(row["head"], row["arm"]) for row in rows] == [(head, arm) for head in runs for arm in ARMS]
    first = runs["rectified"]["as it stood"].summary
    assert rows[0]["settled loss"] == first["settled_loss"]
    assert rows[0]["its p = 1/2"] == first["ladder"]["p = 1/2 everywhere"]
    assert rows[0]["lowest p"] >= 0.5
    late = [s.grad_norm for s in settled(runs["rectified"]["as it stood"].steps)]
    assert rows[0]["gradient norm"] == statistics.median(late)


def test_the_table_has_the_heads_side_by_side(runs):
    pytest.importorskip("pandas")
    table = score_table(runs, ["settled loss", "IoU"]).data
    assert list(table.index) == list(ARMS)
    assert [column[0] for column in table.columns] == ["rectified", "rectified", "logits", "logits"]
    value = table.loc["rate 1e-3", ("logits", "settled loss")]
    assert value == runs["logits"]["rate 1e-3"].summary["settled_loss"]


def test_snapshots_are_at_the_arms_own_steps(frames, tmp_path):
    runs = on_both_heads({"short": {"steps": 3}}, SIZE, frames[:2], frames[2:], heads=["logits"], root=tmp_path)
    assert tuple(runs["logits"]["short"].snapshots()) == moments(3)


@pytest.mark.parametrize("module", ["pandas", "jinja2"])
def test_a_missing_package_is_one_sentence(runs, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(OcclabError, match=f"{module} could not be imported .*pip install"):
        score_table(runs)


def test_a_mistyped_setting_is_named_before_anything_is_trained(frames, tmp_path):
    with pytest.raises(OcclabError, match=r"'learning_rat'.*'learning_rate'"):
        on_both_heads({"right": {}, "typo": {"learning_rat": 1}}, SIZE, frames[:2], frames[2:], root=tmp_path)
    assert not list(tmp_path.iterdir())


def test_names_of_folders_are_plain():
    assert slug("10 x the rate, refine/..") == "10-x-the-rate-refine-.."
    assert slug("???") == "arm"
