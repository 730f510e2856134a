"""Effects of factorials against the model that made the numbers, least squares, and textbooks' alias tables."""

import numpy as np
import pytest

from occlab import OcclabError
from occlab.ablation import coded, compare, effects, fractional_factorial, full_factorial

SETTINGS = ["learning_rate", "clip_norm", "weight_decay", "steps", "batch_size", "warmup_steps", "flip", "targets"]


def columns(k, make=fractional_factorial):
    return coded(make({letter: {name: 1} for letter, name in zip("ABCDEFGH"[:k], SETTINGS, strict=False)}))


def measured(design, truth, n=8, noise=0.0, seed=0):
    """An offset a seed, half of each effect at its contrast's sign, and noise."""
    rng = np.random.default_rng(seed)
    rows = len(next(iter(design.values())))
    y = np.repeat(rng.normal(size=(1, n)), rows, axis=0) + noise * rng.normal(size=(rows, n))
    for names, effect in truth.items():
        y += effect / 2 * np.prod([design[name] for name in names], axis=0)[:, None]
    return y


def test_a_two_by_two_by_hand():
    """Montgomery's chemical process, chapter 6.2: totals 80, 100, 60, 90 over three replicates."""
    runs = [[28, 25, 27], [36, 32, 32], [18, 19, 23], [31, 30, 29]]
    found = effects({"A": [-1, 1, -1, 1], "B": [-1, -1, 1, 1]}, runs, higher_is_better=True)
    assert [e.name for e in found] == ["A", "B", "A x B"]
    assert [round(e.comparison.difference, 2) for e in found] == [8.33, -5.0, 1.67]
    assert {e.comparison.verdict for e in found} == {"too few seeds"}
    assert all(e.aliases == () for e in found)


@pytest.mark.parametrize("k", [2, 3, 5, 8])
def test_effects_that_were_put_in_come_out(k):
    design = columns(k)
    truth = {("A",): 2.0, ("B",): -1.0, ("A", "B"): 0.5}
    y = measured(design, truth, n=2)
    found = {e.factors: e.comparison.difference for e in effects(design, y.tolist(), higher_is_better=True)}
    assert len(found) == k + k * (k - 1) // 2
    for names, effect in found.items():
        assert effect == pytest.approx(truth.get(names, 0.0), abs=1e-12)


def test_effects_are_least_squares():
    design = columns(4)
    y = measured(design, {("C",): 1.0}, n=3, noise=1.0)
    found = effects(design, y.tolist(), higher_is_better=True)
    model = np.stack([np.ones(16), *(np.prod([design[name] for name in e.factors], axis=0) for e in found)], axis=1)
    coefficients = np.linalg.lstsq(model, y.mean(axis=1), rcond=None)[0]
    assert [e.comparison.difference for e in found] == pytest.approx(2 * coefficients[1:])


def test_an_effect_is_a_comparison_of_two_halves():
    design = columns(3)
    y = measured(design, {("B",): 0.3}, noise=0.2)
    effect = next(e for e in effects(design, y.tolist(), higher_is_better=False) if e.name == "B")
    b = np.array(design["B"])
    halves = compare(y[b < 0].mean(axis=0).tolist(), y[b > 0].mean(axis=0).tolist(), higher_is_better=False)
    assert effect.comparison.p == halves.p
    assert effect.comparison.verdict == halves.verdict == "worse"
    assert (effect.comparison.low, effect.comparison.high) == pytest.approx((halves.low, halves.high))


def test_only_true_effects_get_a_verdict():
    design = columns(5)
    y = measured(design, {("A",): 1.0, ("D", "E"): -1.0}, n=10, noise=0.3, seed=1)
    verdicts = {e.name: e.comparison.verdict for e in effects(design, y.tolist(), higher_is_better=True)}
    assert verdicts.pop("A") == "better"
    assert verdicts.pop("D x E") == "worse"
    assert sum(v != "no difference shown" for v in verdicts.values()) <= 2  # 13 tests at 5 %, before any correction


def test_aliases_of_the_half_fraction():
    """2^(5-1) with E = ABCD: a two-way interaction is measured together with the three-way one of the others."""
    found = {e.name: e.aliases for e in effects(columns(5), [[0.0]] * 16, higher_is_better=True)}
    assert found["A"] == ()
    assert found["A x B"] == ("C x D x E",)
    assert found["C x E"] == ("A x B x D",)
    assert len(found) == 15


def test_aliases_of_a_coarser_fraction_are_named_with_their_sign():
    """2^(4-1) with D = -ABC: resolution IV, the interactions come in pairs."""
    full = columns(3, full_factorial)
    design = full | {"D": [-a * b * c for a, b, c in zip(*full.values(), strict=True)]}
    y = measured(design, {("A", "B"): 1.0, ("C", "D"): 0.25}, n=1)
    found = {e.name: e for e in effects(design, y.tolist(), higher_is_better=True)}
    assert list(found) == ["A", "B", "C", "D", "A x B", "A x C", "A x D"]
    assert found["A x B"].aliases == ("-C x D",)
    assert found["A x D"].aliases == ("-B x C",)
    assert found["A"].aliases == ("-B x C x D",)
    assert found["A x B"].comparison.difference == pytest.approx(0.75), "the sum, with the sign, is what can be measured"


def test_a_seed_that_an_arm_lost_counts_nowhere():
    design = columns(2)
    y = measured(design, {("A",): 1.0}, n=9).tolist()
    y[3][4] = float("nan")
    for effect in effects(design, y, higher_is_better=True):
        assert effect.comparison.dropped == (4,)
        assert effect.comparison.n == 8
        assert effect.comparison.verdict == "no difference shown"


def test_no_seed_that_all_arms_finished():
    found = effects(columns(2), [{0: 1.0}, {1: 1.0}, {0: None}, {0: 2.0}], higher_is_better=True)
    assert {(e.comparison.n, e.comparison.difference, e.comparison.dropped) for e in found} == {(0, None, (0, 1))}


def test_seeds_are_paired_by_name():
    design = columns(2)
    y = measured(design, {("A",): 1.0}, n=6, noise=0.1)
    straight = [dict(enumerate(row)) for row in y.tolist()]
    shuffled = [dict(reversed(row.items())) if i % 2 else row for i, row in enumerate(straight)]
    assert effects(design, straight, higher_is_better=True) == effects(design, shuffled, higher_is_better=True)


@pytest.mark.parametrize(
    ("design", "rows", "says"),
    [
        ({}, 4, "columns of -1 and +1"),
        ({"A": [0, 1, 0, 1]}, 4, "columns of -1 and +1"),
        ({"A": [-1, 1, -1]}, 4, "for the 4 arms"),
        ({"A": [1, 1, 1, 1]}, 4, "columns of -1 and +1"),
        ({"A": [-1, 1, -1], "B": [-1, -1, 1]}, 3, "not complete"),
        ({"A": [-1, -1, 1, 1, -1, 1], "B": [-1, -1, -1, 1, 1, 1]}, 6, "cannot be told from a part of"),
    ],
)
def test_incomplete_designs_are_refused(design, rows, says):
    with pytest.raises(OcclabError) as error:
        effects(design, [[0.0]] * rows, higher_is_better=True)
    assert says in str(error.value)
