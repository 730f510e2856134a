"""Paired comparisons against SciPy, against counts by hand, and by simulation."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from occlab import OcclabError
from occlab.ablation import by_arm, compare, corrected, holm, seeds_needed


def noisy(n: int, effect: float, seed: int = 0) -> tuple[list[float], list[float]]:
    """Two arms whose seeds differ by 1 and whose paired differences by 0.1."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=n)
    return base.tolist(), (base + effect + 0.1 * rng.normal(size=n)).tolist()


def up(base, arm, **more):
    return compare(base, arm, higher_is_better=True, **more)


# --- the numbers ----------------------------------------------------------------------------------------------------


def test_p_is_the_count_of_sign_patterns():
    """1.5 + 2 + ... + 6.5 with the first sign turned: 4 of the 64 patterns have a mean as large, either way."""
    d = [-1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    means = [abs(sum(s * x for s, x in zip(signs, d, strict=True))) for signs in itertools.product((-1, 1), repeat=6)]
    by_hand = sum(m >= sum(d) for m in means) / 64
    assert by_hand == 4 / 64
    assert up([0.0] * 6, d).p == pytest.approx(by_hand)


@pytest.mark.parametrize("n", [6, 9])
def test_interval_and_p_are_scipys(n):
    base, arm = noisy(n, 0.1)
    d = np.subtract(arm, base)
    interval = stats.bootstrap((d,), np.mean, method="BCa", n_resamples=9999, rng=np.random.default_rng(4)).confidence_interval
    found = up(base, arm, seed=4)
    assert (found.low, found.high) == pytest.approx(tuple(interval))
    assert found.difference == pytest.approx(d.mean())
    exact = stats.permutation_test((base, arm), lambda x, y: np.mean(x) - np.mean(y), permutation_type="samples")
    assert found.p == pytest.approx(exact.pvalue)  # swapping within pairs is flipping signs


def test_p_near_the_t_test_where_there_are_many_pairs():
    base, arm = noisy(40, 0.035)
    assert up(base, arm).p == pytest.approx(stats.ttest_rel(base, arm).pvalue, abs=0.01)


def test_interval_near_the_t_interval_where_there_are_many_pairs():
    base, arm = noisy(60, 0.05)
    t = stats.ttest_rel(arm, base).confidence_interval(0.9)
    found = up(base, arm, confidence=0.9)
    assert (found.low, found.high) == pytest.approx((t.low, t.high), abs=0.004)


@pytest.mark.parametrize("p", [[0.01, 0.04, 0.03, 0.005], [0.5], [], [1.0, 1.0, 0.2], [0.02, 0.02, 0.02]])
def test_holm_by_its_definition(p):
    """Reject the smallest while p (m - i) <= level: the adjusted p is the smallest level at which it is rejected."""
    adjusted = holm(p)
    for level in np.linspace(0, 1, 401)[1:-1]:
        rejected, order = set(), sorted(range(len(p)), key=p.__getitem__)
        for rank, i in enumerate(order):
            if p[i] * (len(p) - rank) > level:
                break
            rejected.add(i)
        assert {i for i, a in enumerate(adjusted) if a <= level} == rejected, level


def test_holm_refuses_what_is_no_probability():
    with pytest.raises(OcclabError, match=r"\[0, 1\]"):
        holm([0.1, float("nan")])


# --- the verdict ----------------------------------------------------------------------------------------------------


def test_which_side_is_better_is_said():
    base, arm = noisy(8, 1.0)
    assert compare(base, arm, higher_is_better=True).verdict == "better"
    assert compare(base, arm, higher_is_better=False).verdict == "worse"
    with pytest.raises(TypeError):
        compare(base, arm)


def test_five_pairs_are_points_only():
    found = up([0.0] * 5, [1.0, 1.1, 1.2, 1.3, 1.4])
    assert (found.verdict, found.low, found.high, found.p) == ("too few seeds", None, None, None)
    assert "5 of the 6" in found.reason
    assert "0.0625" in found.reason or "0.062" in found.reason
    assert found.differences[4] == 1.4
    assert found.difference == pytest.approx(1.2)


def test_seeds_needed_is_where_the_smallest_p_can_do():
    assert seeds_needed() == 6
    assert seeds_needed(confidence=0.9) == 6
    assert seeds_needed(confidence=0.99) == 8
    assert seeds_needed(5) == 8


def test_interval_alone_is_not_enough():
    """Five up, one a little down: the interval excludes 0, and two of 32 sign patterns do as well."""
    found = up([0.0] * 6, [-0.1, 1.0, 1.1, 1.2, 1.3, 1.4])
    assert found.low > 0
    assert found.p > 0.05
    assert found.verdict == "no difference shown"
    assert "do not agree" in found.reason


def test_the_same_numbers_are_no_difference():
    found = up([1.0, 2, 3, 4, 5, 6], [1.0, 2, 3, 4, 5, 6])
    assert (found.verdict, found.difference, found.low, found.p) == ("no difference shown", 0.0, None, 1.0)
    assert "the difference is 0 with each of 6 seeds" in found.reason


def test_the_same_difference_everywhere_is_a_point():
    """0.1 is no binary fraction: the differences are equal but for rounding."""
    base = [0.1, 0.7, 1.3, 1.9, 2.3, 3.1]
    found = up(base, [x + 0.1 for x in base])
    assert found.low == found.high == pytest.approx(0.1)
    assert found.p == pytest.approx(2 / 64)
    assert found.verdict == "better"


def test_numbers_that_never_vary_are_one_pair():
    found = up([0.2] * 8, [0.3] * 8)
    assert found.verdict == "too few seeds"
    assert "no number depends on the seed" in found.reason


@pytest.mark.parametrize("lost", [float("nan"), float("inf"), None])
def test_an_arm_that_lost_a_run_is_never_better(lost):
    base, arm = noisy(9, 1.0)
    broken = [*arm[:-1], lost]
    found = up(base, broken)
    assert found.dropped == (8,)
    assert found.n == 8
    assert found.verdict == "no difference shown"
    assert "lost the runs of seed 8" in found.reason
    assert compare(base, broken, higher_is_better=False).verdict == "worse", "it is worse even among the runs it kept"
    assert compare(broken, base, higher_is_better=True).verdict == "no difference shown", "the favourable side is the same"
    assert compare(broken, base, higher_is_better=False).verdict == "better"


def test_no_seed_in_common():
    found = up({0: 1.0}, {1: 2.0})
    assert (found.n, found.difference, found.dropped, found.verdict) == (0, None, (0, 1), "too few seeds")


def test_more_than_thirteen_pairs_are_sampled_with_the_seed():
    base, arm = noisy(15, 0.05)
    assert up(base, arm) == up(base, arm)
    assert up(base, arm, seed=1).p == pytest.approx(up(base, arm, seed=2).p, abs=0.02)


def test_bad_input_is_one_sentence():
    with pytest.raises(OcclabError, match="3 and 2 numbers"):
        up([1.0, 2, 3], [1.0, 2])
    with pytest.raises(OcclabError, match="confidence"):
        up([1.0], [1.0], confidence=95)


# --- several at once ------------------------------------------------------------------------------------------------


def test_six_seeds_cannot_carry_five_comparisons():
    found = corrected({str(i): up(*noisy(6, 1.0, seed=i)) for i in range(5)})
    assert {c.verdict for c in found.values()} == {"too few seeds"}
    assert all(c.adjusted_p == pytest.approx(5 * 2 / 64) for c in found.values())
    assert "needs 8 pairs" in found["0"].reason
    found = corrected({str(i): up(*noisy(8, 1.0, seed=i)) for i in range(5)})
    assert {c.verdict for c in found.values()} == {"better"}


def test_correction_takes_back_verdicts_and_gives_none():
    """1, -2, 3, ... 10: signs that give as large a sum leave out nothing, 1 or 2, so p is 6 / 1024; ten times that is 0.059."""
    weak = up([0.0] * 10, [1.0, -2.0, *range(3, 11)])
    assert (weak.verdict, weak.p) == ("better", pytest.approx(6 / 1024))
    comparisons = {"weak": weak, "points": up([1.0], [2.0])} | {f"null {i}": up(*noisy(10, 0.0, seed=i)) for i in range(9)}
    found = corrected(comparisons)
    assert found["weak"].verdict == "no difference shown"
    assert found["weak"].adjusted_p == pytest.approx(60 / 1024)
    assert "0.059 after Holm's correction for 10 comparisons" in found["weak"].reason
    assert found["points"] == comparisons["points"]
    kept = {name: c.verdict for name, c in found.items() if name not in ("weak", "points")}
    assert set(kept.values()) == {"no difference shown"}


# --- by simulation --------------------------------------------------------------------------------------------------


def test_false_alarms_and_misses():
    """No effect, skewed noise, 7 pairs: a verdict in at most 5 %; an effect of three standard deviations: nearly always."""
    rng = np.random.default_rng(0)
    n, trials = 7, 400
    noise = rng.exponential(size=(trials, n)) - rng.exponential(size=(trials, n))
    nothing = [up([0.0] * n, d.tolist()).verdict for d in noise]
    alarms = sum(v != "no difference shown" for v in nothing)
    assert stats.binomtest(alarms, trials, 0.05, alternative="greater").pvalue > 0.01
    strong = [up([0.0] * n, (d + 3 * np.sqrt(2)).tolist()).verdict for d in noise[:40]]
    assert strong.count("better") >= 36


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    """12 pairs: 92 to 93 % in larger simulations, not 95; it must be neither a coin nor a certainty."""
    rng = np.random.default_rng(1)
    trials = 150
    held = sum(c.low <= 0.5 <= c.high for c in (up([0.0] * 12, d.tolist()) for d in rng.normal(0.5, 1, size=(trials, 12))))
    assert stats.binomtest(held, trials, 0.90, alternative="less").pvalue > 0.01
    assert stats.binomtest(held, trials, 0.97, alternative="greater").pvalue > 0.01


# --- invariants -----------------------------------------------------------------------------------------------------

pairs = st.lists(st.tuples(st.integers(-64, 64), st.integers(-64, 64)), min_size=1, max_size=9).map(
    lambda rows: ([a / 16 for a, _ in rows], [b / 16 for _, b in rows])  # sixteenths: sums and differences are exact
)
few = settings(max_examples=25, deadline=None)
FLIPPED = {"better": "worse", "worse": "better"}


@few
@given(pairs)
def test_swapping_flips_the_signs(pair):
    base, arm = pair
    there, back = up(base, arm), up(arm, base)
    assert back.difference == -there.difference
    assert back.p == there.p
    assert back.verdict == FLIPPED.get(there.verdict, there.verdict)
    if there.low is not None:
        assert (-back.high, -back.low) == pytest.approx((there.low, there.high), abs=1e-9)


@few
@given(pairs, st.integers(-100, 100))
def test_a_constant_added_to_both_changes_nothing(pair, constant):
    base, arm = pair
    moved = up([x + constant for x in base], [x + constant for x in arm])
    assert moved == up(base, arm)


@few
@given(pairs, st.randoms(use_true_random=False))
def test_the_order_of_the_seeds_does_not_matter(pair, random):
    base, arm = ({2**63 - 1009 * i**3: value for i, value in enumerate(values)} for values in pair)
    order = list(base)
    random.shuffle(order)
    found = up({s: base[s] for s in order}, arm)
    assert found == up(base, arm)
    assert list(found.differences) == sorted(base)


@few
@given(pairs)
def test_higher_is_better_only_turns_the_verdict(pair):
    more, less = (compare(*pair, higher_is_better=way) for way in (True, False))
    assert less.verdict == FLIPPED.get(more.verdict, more.verdict)
    assert (less.low, less.high, less.p) == (more.low, more.high, more.p)


@few
@given(pairs, st.sampled_from([2.0**-500, 2.0**-40, 2.0**30, 2.0**500]))
def test_the_unit_does_not_matter(pair, unit):
    base, arm = pair
    found, scaled = up(base, arm), up([x * unit for x in base], [x * unit for x in arm])
    assert (scaled.p, scaled.verdict) == (found.p, found.verdict)
    if found.low is not None:
        assert np.isfinite([found.low, found.high]).all()
        assert (scaled.low / unit, scaled.high / unit) == pytest.approx((found.low, found.high))


# --- the table ------------------------------------------------------------------------------------------------------


def test_a_tidy_table_is_taken_apart():
    rows = [{"arm": a, "seed": s, "iou": s + (a == "b")} for s in (2, 0, 1) for a in "ab"]
    assert by_arm(rows, "iou") == {"a": {2: 2, 0: 0, 1: 1}, "b": {2: 3, 0: 1, 1: 2}}
    with pytest.raises(OcclabError, match="'loss'; it has arm, seed, iou"):
        by_arm(rows, "loss")
    with pytest.raises(OcclabError, match="two rows of arm 'a' with seed 2"):
        by_arm([*rows, rows[0]], "iou")
