"""The knobs: every recorded arm can be set, what is impossible is refused, and every figure comes from the tables."""

from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest

from occlab import OcclabError
from occlab.ablation import apply, read_design, recorded_table
from occlab.settings import PROFILES
from occlab.training import TrainConfig, fast_precision, preset
from occlab.workbench import knob_words, knobs
from occlab.workbench.knobs import KNOBS, PRESETS, choices_of, moments, settings, sizes, turned

DESIGNS = Path(__file__).parents[2] / "notebooks" / "designs"
SWEEP = PROFILES["small"].for_sweeps()


def same_training(made, expected):
    """Apart from what the workbench sets for itself."""
    return made == replace(expected, snapshot_steps=made.snapshot_steps, precision=made.precision)


def arms_of(name):
    """Every arm of a design with the head as it stood, by the last part of its name."""
    design = read_design(DESIGNS / f"{name}.yaml")
    arms = {arm.name.partition(": ")[2]: arm for arm in design.arms if arm.group == "head=rectified"}
    return {name: design.config(arm, 0) for name, arm in arms.items()}


def test_every_level_of_a_knob_sets_the_same_settings_and_the_first_is_as_it_stood():
    for knob in KNOBS:
        if knob.levels:
            assert len({frozenset(changes) for changes in knob.levels.values()}) == 1, knob.label
            first = next(iter(knob.levels))
            assert choices_of(TrainConfig())[knob.label] == first
        else:
            assert knob.low <= choices_of(TrainConfig())[knob.label] <= knob.high


def test_no_setting_has_two_knobs():
    names = [name for knob in KNOBS for name in (next(iter(knob.levels.values())) if knob.levels else [knob.setting])]
    assert len(names) == len(set(names))
    assert len({knob.label for knob in KNOBS}) == len(KNOBS)


def test_every_level_can_be_set_and_is_found_again():
    base = settings("as it stood", SWEEP, {})
    for knob in KNOBS:
        for level in knob.levels:
            others = {"output prior": "0.1"} if knob.label == "prior set in" else {}
            made = turned(base, {**others, knob.label: level})
            assert choices_of(made)[knob.label] == level
            rest = {label: choice for label, choice in choices_of(made).items() if label not in {knob.label, *others}}
            assert rest == {label: choice for label, choice in choices_of(base).items() if label in rest}


def test_what_is_set_comes_back_from_its_choices():
    for name in PRESETS:
        made = settings(name, SWEEP, {"seed": 7, "batch size": 2})
        assert (made.seed, made.batch_size, made.precision) == (7, 2, fast_precision())
        choices = choices_of(made)
        assert set(choices) == {knob.label for knob in KNOBS}, "every preset can be said by knobs"
        assert settings("as it stood", SWEEP, choices) == made


def test_the_presets_are_the_recorded_arms():
    five, claims = arms_of("five_fixes"), arms_of("claims")
    for name in ("learning rate", "clipping", "focal loss", "initialisation", "depth"):
        made = settings(name, PROFILES["small"], {"steps": 300})
        assert same_training(made, five[name]), name
        assert PRESETS[name].arm == ("five_fixes", f"head=rectified: {name}")
    assert same_training(settings("as it stood", PROFILES["small"], {"steps": 300}), five["base"])
    assert same_training(settings("all fixes", SWEEP, {}), claims["all of them"])


def test_the_librarys_presets_are_the_librarys():
    assert same_training(settings("repaired", SWEEP, {}), preset("repaired", SWEEP))
    assert same_training(settings("recommended", SWEEP, {}), preset("recommended", SWEEP.for_recipe()))
    assert same_training(settings("logits instead", SWEEP, {}), preset("as-it-stood", SWEEP, head="logits"))


def test_every_arm_of_the_claims_has_a_knob_that_sets_it():
    claims, base = arms_of("claims"), settings("as it stood", SWEEP, {})
    named = {arm: (knob, of) for knob in KNOBS for of, arm in knob.arms.items()}
    assert set(named) == set(claims) - {"as it stood", "all of them"}
    for arm, (knob, of) in named.items():
        if of in knob.levels:
            assert same_training(turned(base, {knob.label: of}), claims[arm]), arm
    assert same_training(turned(base, {"turns, degrees": 10.0}), claims["rotations"])
    both = {"learning rate": "5e-4", "warm-up steps": 20}
    assert same_training(turned(base, both), claims["learning rate 5e-4 with warm-up"])


def test_every_factor_of_the_factorial_has_a_knob():
    factors = read_design(DESIGNS / "factorial.yaml").arms[0].levels
    assert {knob.factor[0] for knob in KNOBS if knob.factor} == set(factors) - {"head"}


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        ({"head": "logits", "output prior": "0.1", "prior set in": "norm"}, "needs a BatchNorm behind the last convolution"),
        ({"prior set in": "norm"}, "output_prior is None"),
        ({"schedule": "one-cycle", "warm-up steps": 5}, "has a warm-up of its own"),
        ({"warm-up steps": 150}, "warmup_steps must be fewer than the steps"),
        ({"steps": 0}, "steps must be a whole number of at least 1"),
        ({"head": "sigmoid"}, "head must be one of rectified, logits, got 'sigmoid'"),
        ({"heads": "logits"}, "no knob 'heads'"),
    ],
)
def test_what_contradicts_itself_is_one_sentence(choices, sentence):
    with pytest.raises(OcclabError, match=sentence) as caught:
        settings("as it stood", SWEEP, choices)
    assert "\n" not in str(caught.value)


def test_a_setting_that_no_knob_reaches_is_kept_and_left_out_of_the_choices():
    odd = replace(TrainConfig(), learning_rate=2.5e-4, weight_decay=0.5)
    assert "learning rate" not in choices_of(odd)
    assert turned(odd, {"flips": "yes"}).weight_decay == 0.5
    assert knob_words.differences(odd) == {"learning rate": "another value"}


def test_predictions_are_kept_at_a_dozen_moments_from_the_first_to_the_last():
    for steps in (150, 600):
        kept = moments(steps)
        assert len(kept) == 12
        assert (kept[0], kept[-1]) == (0, steps)
    assert moments(1) == (0, 1)
    assert turned(TrainConfig(), {"steps": 40}).snapshot_steps == moments(40)


def test_the_size_that_suits_the_machine_is_one_of_the_list(monkeypatch):
    for profile, label in {"tiny": "tiny", "small": "small, cells of 1.2 m", "full": "full"}.items():
        monkeypatch.setenv("OCCLAB_PROFILE", profile)
        assert knobs.default_size() == label
    assert {size.grid.voxel_size[0] for size in sizes().values()} == {0.6, 1.2}


def mean(table, arm, measure):
    return fmean(row[measure] for row in recorded_table(table) if row["arm"] == arm)


def test_what_the_recorded_runs_say_is_what_their_tables_hold():
    found = knob_words.gains()
    for label, of, arm in (("output prior", "0.1", "output bias for p = 0.1"), ("depth", "256 to 2048", "deeper")):
        gain = next(gain for gain in found[label] if gain.of == of)
        for head, comparison in gain.by_head.items():
            stood = mean("claims", f"head={head}: as it stood", "held_out_iou")
            assert comparison.difference == pytest.approx(mean("claims", f"head={head}: {arm}", "held_out_iou") - stood)
            assert comparison.low <= comparison.difference <= comparison.high
    (instead,) = found["head"][0].by_head.values()
    stood = mean("claims", "head=rectified: as it stood", "held_out_iou")
    assert instead.difference == pytest.approx(mean("claims", "head=logits: as it stood", "held_out_iou") - stood)
    (depth,) = found["preset depth"][0].by_head.values()
    base = mean("five_fixes", "head=rectified: base", "held_out_iou")
    assert depth.difference == pytest.approx(mean("five_fixes", "head=rectified: depth", "held_out_iou") - base)


def test_the_main_effect_in_the_factorial_is_the_difference_of_two_means():
    rows = [row for row in recorded_table("factorial") if row["head"] == "logits"]
    ap = {on: [r["held_out_average_precision"] for r in rows if ("rate 1e-3" in r["arm"]) == on] for on in (True, False)}
    assert len(ap[True]) == len(ap[False]) == 64
    gain = knob_words.gains()["learning rate"][-1]
    assert gain.measure == knob_words.IN_FACTORIAL
    assert gain.by_head["logits"].difference == pytest.approx(fmean(ap[True]) - fmean(ap[False]))


def test_what_was_not_recorded_is_said_to_be_so_also_where_the_tables_are_missing(monkeypatch):
    found = knob_words.gains()
    assert knob_words.recorded_in_words(found["optimiser"]) == "Recorded: not among the recorded runs."
    assert found["seed"] == found["schedule"] == []
    assert "with rectified" in knob_words.recorded_in_words(found["flips"])

    def missing(name):
        raise OcclabError(f"no recorded table named {name!r}")

    monkeypatch.setattr(knob_words, "recorded_table", missing)
    assert knob_words.gains.__wrapped__() == {}
    assert "not on this machine" in knob_words.recorded_in_words({}.get("flips"))


def test_a_prior_that_is_subtracted_away_explains_itself():
    lost = settings("initialisation", SWEEP, {})
    assert [remark for remark in knob_words.remarks(lost) if "changes nothing here" in remark]
    in_norm = turned(lost, {"prior set in": "norm"})
    assert ["below 0" in remark for remark in knob_words.remarks(in_norm)] == [True]
    assert knob_words.remarks(turned(lost, {"head": "logits"})) == []
    assert "hardly moves" in knob_words.remarks(settings("as it stood", SWEEP, {"optimiser": "SGD"}))[0]
    assert knob_words.remarks(settings("as it stood", SWEEP, {"optimiser": "SGD", "learning rate": "0.1"})) == []


def test_a_configuration_in_words():
    stood = knob_words.in_words(settings("as it stood", PROFILES["full"], {}))
    assert "6,832,928 parameters" in stood
    assert "BCE + 0.5 Dice on soft targets; AdamW at 1e-4, clipped at 0.1" in stood
    everything = knob_words.in_words(settings("all fixes", SWEEP, {}))
    assert "focal + Dice on hard targets" in everything
    assert "20 steps of warm-up" in everything
    assert knob_words.differences(settings("as it stood", SWEEP, {"seed": 3, "steps": 10})) == {}
    changed = knob_words.differences(settings("repaired", SWEEP, {}))
    assert changed == {"head": "logits", "learning rate": "1e-3"}
    assert [knob_words.rate(x) for x in (1e-4, 2.5e-4, 3e-3, 1e-2, 0.1)] == ["1e-4", "2.5e-4", "3e-3", "1e-2", "0.1"]


def test_an_arm_of_an_ablation_and_a_knob_set_the_same():
    base = settings("as it stood", SWEEP, {})
    design = read_design(DESIGNS / "factorial.yaml")
    arm = next(a for a in design.arms if sum(a.levels.values()) == 6)  # logits and all five factors
    choices = {
        "head": "logits",
        "learning rate": "1e-3",
        "clipping norm": "10",
        "loss": "focal",
        "initialisation": "Kaiming",
        "output prior": "0.1",
        "depth": "256 to 1024",
        "blocks": "residual",
    }
    assert same_training(turned(base, choices), apply(arm, base))
