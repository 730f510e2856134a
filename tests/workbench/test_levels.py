"""What the ticks of the Ablate tab ask for, and what their runs say, without the tab."""

import pytest

from occlab import OcclabError
from occlab.ablation import Design, one_change
from occlab.settings import PROFILES
from occlab.training import preset
from occlab.workbench.kept_designs import as_design, document
from occlab.workbench.levels import AS_SET_UP, comparison
from occlab.workbench.sweep_results import said


@pytest.fixture
def short():
    return preset("as-it-stood", PROFILES["tiny"], steps=12)


# --- what the ticks mean ----------------------------------------------------------------------------------------------


def test_one_change_is_the_set_up_and_each_level_alone(short):
    rest = comparison(short, "one change", {"learning rate": ["1e-3", "1e-2"], "loss": ["focal"]}, False)
    design = as_design(document(short, [0], rest))
    assert [(arm.name, arm.against) for arm in design.arms] == [
        (AS_SET_UP, None),
        ("learning rate: 1e-3", AS_SET_UP),
        ("learning rate: 1e-2", AS_SET_UP),
        ("loss: focal", AS_SET_UP),
    ]
    configs = [design.config(arm, 0) for arm in design.arms]
    assert configs[0] == short
    assert [config.learning_rate for config in configs] == [1e-4, 1e-3, 1e-2, 1e-4]
    assert (configs[3].loss.bce, configs[3].loss.dice, configs[3].loss.focal) == (0, 0, 1)


def test_a_ladder_climbs_in_the_order_of_ticking(short):
    rest = comparison(short, "ladder", {"flips": ["yes"], "learning rate": ["1e-3", "1e-2"]}, False)
    design = as_design(document(short, [0], rest))
    configs = [design.config(arm, 0) for arm in design.arms]
    assert [(config.flip, config.learning_rate) for config in configs] == [
        (False, 1e-4),
        (True, 1e-4),
        (True, 1e-3),
        (True, 1e-2),
    ]


def test_a_factorial_takes_several_levels_of_one_setting_and_one_of_several(short):
    chosen = {"learning rate": ["1e-3", "1e-2"], "loss": ["focal"]}
    design = as_design(document(short, [0], comparison(short, "full factorial", chosen, False)))
    configs = [design.config(arm, 0) for arm in design.arms]
    assert [(c.learning_rate, c.loss.focal) for c in configs] == [(r, f) for r in (1e-4, 1e-3, 1e-2) for f in (0, 1)]
    with pytest.raises(OcclabError, match="a full factorial takes one level of loss here"):
        comparison(short, "full factorial", {"loss": ["focal", "BCE + Dice"]}, False)


def test_both_heads_repeat_the_whole_design(short):
    design = as_design(document(short, [0], comparison(short, "leave one out", {"flips": ["yes"], "targets": ["hard"]}, True)))
    assert len(design.arms) == 2 * 3
    assert {(arm.group, design.config(arm, 0).model.head) for arm in design.arms} == {
        ("head=rectified", "rectified"),
        ("head=logits", "logits"),
    }


def test_no_tick_no_design(short):
    with pytest.raises(OcclabError, match="tick at least one level"):
        comparison(short, "one change", {}, False)


# --- what the runs say ------------------------------------------------------------------------------------------------


def row(arm, against, seed, iou, group=""):
    return {"arm": arm, "group": group, "seed": seed, "against": against, "status": "done", "held_out_iou": iou}


def test_differences_are_those_of_pairs_that_both_have_runs():
    design = Design(tuple(one_change({"a": {"flip": True}, "b": {"targets": "hard"}})), (0, 1))
    rows = [row("base", None, 0, 0.1), row("a", "base", 0, 0.3), row("base", None, 1, 0.2)]
    [(label, head, made)] = said(design, rows)
    assert (label, head, made.n) == ("a", "", 1)
    assert made.difference == pytest.approx(0.2)
    assert said(design, [row("a", "base", 0, 0.3)]) == []  # its base has none yet


def test_a_factorial_says_effects_of_each_head_and_that_of_the_head():
    rest = {"for_each": {"head": ["rectified", "logits"]}, "design": "full factorial"}
    rest["factors"] = {"a": {"flip": True}, "b": {"targets": "hard"}}
    config = preset("as-it-stood", PROFILES["tiny"])
    design = as_design(document(config, [0], rest))
    ious = [0.0, 0.1, 0.2, 0.3, 1.0, 1.3, 1.2, 1.5]
    rows = [row(arm.name, None, 0, iou, arm.group) for arm, iou in zip(design.arms, ious, strict=True)]
    found = {(label, head): made.difference for label, head, made in said(design, rows)}
    assert found["a", "rectified"] == pytest.approx(0.2)
    assert found["b", "logits"] == pytest.approx(0.3)
    assert found["head", "both"] == pytest.approx(1.1)
    assert ("a", "both") not in found
    assert [made.n for *_, made in said(design, rows[:3])] == [0] * 9  # a seed counts once all its arms are made
