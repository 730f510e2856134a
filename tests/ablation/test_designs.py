"""Designs: the arms that textbooks list, resolution by computing the aliases, and configurations that come out."""

from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from occlab import OcclabError, OccupancyLoss
from occlab.ablation import (
    Arm,
    apply,
    coded,
    for_each,
    fractional_factorial,
    full_factorial,
    ladder,
    leave_one_out,
    one_change,
    setting_names,
)
from occlab.training import TrainConfig

RATE, CLIP, FLIP = {"learning_rate": 1e-3}, {"clip_norm": 10.0}, {"flip": True}
THREE = {"rate": RATE, "clip": CLIP, "flip": FLIP}
EIGHT = THREE | {
    "dice": {"loss.dice": 1.0},
    "hard": {"targets": "hard"},
    "decay": {"weight_decay": 0.1},
    "head": {"head": "logits"},
    "warm-up": {"warmup_steps": 50},
}


def first(k):
    return dict(list(EIGHT.items())[:k])


# --- lists of arms --------------------------------------------------------------------------------------------------


def test_one_change():
    assert one_change(THREE) == [
        Arm("base"),
        Arm("rate", RATE, "base"),
        Arm("clip", CLIP, "base"),
        Arm("flip", FLIP, "base"),
    ]


def test_one_change_with_several_levels():
    """The first level is the base's: every other arm has it too."""
    arms = one_change({"learning_rate": [1e-4, 5e-4, 1e-3], "flip": FLIP})
    assert [(arm.name, arm.changes) for arm in arms] == [
        ("base", {"learning_rate": 1e-4}),
        ("learning_rate=0.0005", {"learning_rate": 5e-4}),
        ("learning_rate=0.001", {"learning_rate": 1e-3}),
        ("flip", {"learning_rate": 1e-4, "flip": True}),
    ]


def test_ladder_adds_up():
    arms = ladder(THREE)
    assert [arm.name for arm in arms] == ["base", "+ rate", "+ clip", "+ flip"]
    assert [arm.against for arm in arms] == [None, "base", "+ rate", "+ clip"]
    assert [arm.changes for arm in arms] == [{}, RATE, RATE | CLIP, RATE | CLIP | FLIP]


def test_ladder_goes_on_from_what_an_earlier_rung_set():
    arms = ladder(
        {"focal": {"loss": OccupancyLoss(bce=0, dice=0, focal=1)}, "and Dice": {"loss.dice": 1.0}, "BCE": {"loss": {"bce": 1}}}
    )
    losses = [apply(arm, TrainConfig()).loss for arm in arms]
    assert [(loss.bce, loss.dice, loss.focal) for loss in losses] == [(1, 0.5, 0), (0, 0, 1), (0, 1, 1), (1, 1, 1)]
    again = ladder({"Dice": {"loss.dice": 1.0}, "focal": {"loss": OccupancyLoss(bce=0, dice=0, focal=1)}})
    assert apply(again[2], TrainConfig()).loss.dice == 0


def test_leave_one_out():
    arms = leave_one_out(THREE)
    assert [(arm.name, arm.against) for arm in arms] == [
        ("all", None),
        ("all but rate", "all"),
        ("all but clip", "all"),
        ("all but flip", "all"),
    ]
    assert [arm.changes for arm in arms] == [RATE | CLIP | FLIP, CLIP | FLIP, RATE | FLIP, RATE | CLIP]


def test_full_factorial():
    arms = full_factorial(THREE)
    assert [arm.name for arm in arms[:4]] == ["base", "flip", "clip", "clip + flip"]
    assert len(arms) == len({str(arm.changes) for arm in arms}) == 8
    for arm in arms:
        assert arm.changes == {k: v for name, on in arm.levels.items() if on for k, v in THREE[name].items()}
    assert len(full_factorial({"learning_rate": [1e-4, 5e-4, 1e-3], "rest": FLIP})) == 6


def test_for_each_repeats_the_design():
    arms = for_each({"head": ["rectified", "logits"]}, ladder({"rate": RATE, "flip": FLIP}))
    assert [arm.against for arm in arms[:3]] == [None, "head=rectified: base", "head=rectified: + rate"]
    assert [arm.against for arm in arms[3:]] == [None, "head=logits: base", "head=logits: + rate"]
    assert [arm.group for arm in arms] == ["head=rectified"] * 3 + ["head=logits"] * 3
    assert apply(arms[-1], TrainConfig()) == replace(
        TrainConfig(), model=replace(TrainConfig().model, head="logits"), learning_rate=1e-3, flip=True
    )


def test_for_each_of_a_factorial_is_a_factorial():
    columns = coded(for_each({"head": ["rectified", "logits"]}, full_factorial({"rate": RATE, "flip": FLIP})))
    assert list(columns) == ["head", "rate", "flip"]
    assert len(set(zip(*columns.values(), strict=True))) == 8


# --- fractions: resolution from the aliases themselves --------------------------------------------------------------


def defining_words(columns: dict[str, list[int]]) -> list[tuple[str, ...]]:
    """Products of factors that are the same in every arm."""
    table = {name: np.array(column) for name, column in columns.items()}
    return [
        names
        for order in range(1, len(table) + 1)
        for names in combinations(table, order)
        if abs(np.prod([table[name] for name in names], axis=0).sum()) == len(next(iter(table.values())))
    ]


@pytest.mark.parametrize(
    ("k", "runs", "word_lengths"), [(5, 16, [5]), (6, 32, [6]), (7, 64, [7]), (8, 64, [5, 5, 6])], ids=["V", "VI", "VII", "V"]
)
def test_word_lengths_are_the_published_ones(k, runs, word_lengths):
    arms = fractional_factorial(first(k))
    assert len(arms) == len({arm.name for arm in arms}) == runs
    columns = coded(arms)
    assert sorted(map(len, defining_words(columns))) == word_lengths
    matrix = np.array(list(columns.values()))
    assert (matrix @ matrix.T == runs * np.eye(k)).all(), "every two factors are balanced"
    assert any(all(level == 1 for level in arm.levels.values()) for arm in arms), "all factors on is one of the arms"


def test_last_factors_of_the_quarter_fraction():
    """2^(8-2): G = ABCD, H = ABEF."""
    a, b, c, d, e, f, g, h = (np.array(column) for column in coded(fractional_factorial(EIGHT)).values())
    assert (g == a * b * c * d).all()
    assert (h == a * b * e * f).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(5, 8), st.data())
def test_any_four_factors_see_all_their_combinations(k, data):
    """A design of resolution V is a full factorial in any four of its factors, each combination equally often."""
    columns = list(coded(fractional_factorial(first(k))).values())
    four = data.draw(st.permutations(range(k)))[:4]
    seen = Counter(zip(*(columns[i] for i in four), strict=True))
    assert len(seen) == 16
    assert len(set(seen.values())) == 1


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_few_factors_get_the_full_factorial(k):
    assert fractional_factorial(first(k)) == full_factorial(first(k))


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "factors", "says"),
    [
        (one_change, {}, "at least one factor"),
        (one_change, {"rate": 1e-3}, "factor 'rate' must be a mapping of changes, or a list of two levels or more"),
        (one_change, {"rate": {}}, "factor 'rate' must be a mapping"),
        (one_change, {"learning_rate": [1e-3]}, "two levels or more"),
        (full_factorial, {"a": {"loss.dice": 1}, "b": {"loss": OccupancyLoss()}}, "'a' and 'b' both change loss.dice"),
        (one_change, {"a": {"head": "logits"}, "b": {"model.head": "logits"}}, "both change model.head"),
        (leave_one_out, {"learning_rate": [1, 2, 3]}, "leave_one_out needs factors of two levels, and 'learning_rate' has 3"),
        (fractional_factorial, {"learning_rate": [1, 2, 3]}, "two levels"),
        (fractional_factorial, EIGHT | {"ninth": {"batch_size": 2}}, "up to 8 factors, got 9"),
    ],
)
def test_designs_that_say_nothing_are_refused(make, factors, says):
    with pytest.raises(OcclabError, match=says.replace("(", r"\(")):
        make(factors)


def test_repeating_over_what_an_arm_changes_is_refused():
    with pytest.raises(OcclabError, match=r"model\.head is changed by the arm 'head'"):
        for_each({"head": ["rectified", "logits"]}, one_change({"head": {"head": "logits"}}))


def test_no_effects_without_a_factorial():
    with pytest.raises(OcclabError, match="arms of a factorial"):
        coded(one_change(THREE))
    with pytest.raises(OcclabError, match="two levels"):
        coded(full_factorial({"learning_rate": [1, 2, 3]}))


# --- changes --------------------------------------------------------------------------------------------------------


def test_apply_reaches_nested_settings():
    base = TrainConfig()
    config = apply(Arm("x", {"loss.dice": 2, "model.channels": [128, 256, 512], "head": "logits", "clip_norm": None}), base)
    assert config == replace(
        base,
        loss=replace(base.loss, dice=2),
        model=replace(base.model, channels=(128, 256, 512), head="logits"),
        clip_norm=None,
    )
    assert apply(Arm("x", {"loss": {"dice": 2}}), base) == apply(Arm("x", {"loss.dice": 2}), base)
    keys = {"refine": {"lr_mult": 10.0}}
    assert apply(Arm("x", {"custom_keys": keys}), base).custom_keys == keys


def test_settings_that_must_agree_change_together():
    """One by one, either would be refused: all loss weights 0, a grid and a network of different heights."""
    loss = apply(Arm("focal", {"loss.bce": 0, "loss.dice": 0, "loss.focal": 1}), TrainConfig()).loss
    assert (loss.bce, loss.dice, loss.focal) == (0, 0, 1)
    half = {"grid.voxel_size": [0.6, 0.6, 0.5], "model.out_channels": 16}
    assert apply(Arm("16 heights", half), TrainConfig()).grid.shape == (16, 180, 180)


def test_every_name_is_one_that_can_be_set():
    base = TrainConfig()
    for name in setting_names(base):
        value = base
        for part in name.split("."):
            value = getattr(value, part)
        if name != "seed":
            assert apply(Arm("x", {name: value}), base) == base


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"learning_rat": 1}, "arm 'x': unknown setting 'learning_rat'; the nearest valid one is 'learning_rate'"),
        ({"lr": 1}, "'learning_rate'"),
        ({"loss.dise": 1}, "'loss.dice'"),
        ({"loss": {"dise": 1}}, "'loss.dice'"),
        ({"dice": 1}, "'loss.dice'"),
        ({"chanels": [1]}, "'model.channels'"),
        ({"gamma": 2}, "'loss.focal_gamma'"),
        ({"haed": "logits"}, "'head'"),
        ({"learning_rate.x": 1}, "unknown setting 'learning_rate.x'"),
        ({"seed": 3}, "same seeds"),
        ({"learning_rate": "fast"}, "learning_rate must be a finite number"),
        ({"loss": 3}, "loss is made of settings such as loss.bce"),
        ({"flip": "no"}, "flip must be true or false"),
        ({"model.channels": 3}, "model.channels do not fit"),
        ({"head": "logits", "model.head": "logits"}, "model.head is set twice"),
    ],
)
def test_a_bad_change_is_one_sentence(changes, says):
    with pytest.raises(OcclabError) as error:
        apply(Arm("x", changes), TrainConfig())
    assert says in str(error.value)
    assert "\n" not in str(error.value)
