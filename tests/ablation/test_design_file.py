"""Designs as YAML: what they become, and one sentence for every mistake."""

import inspect
import re
import textwrap

import pytest

from occlab import OcclabError
from occlab.ablation import design_file, fractional_factorial, one_change, read_design
from occlab.settings import PROFILES
from occlab.training import preset

GOOD = """
preset: as-it-stood
profile: tiny
base: {steps: 20}
seeds: 3
design: one change
factors:
  higher rate: {learning_rate: 1e-3, warmup_steps: 5}
  clip_norm: [0.1, 1, null]
"""


@pytest.fixture
def read(tmp_path):
    def read(text):
        (tmp_path / "design.yaml").write_text(text)
        return read_design(tmp_path / "design.yaml")

    return read


def test_the_example_in_the_documentation_is_one(read):
    _, example, arms = re.split(r"\n\n(?=    )", inspect.getdoc(design_file))
    example = textwrap.dedent(example.partition("\n\n")[0])
    assert len(read(example).arms) == 8
    assert [arm.name for arm in read(f"seeds: 1\n{textwrap.dedent(arms)}").arms] == ["as it stood", "higher rate"]


def test_a_design_becomes_arms_and_seeds(read):
    design = read(GOOD)
    factors = {"higher rate": {"learning_rate": 1e-3, "warmup_steps": 5}, "clip_norm": [0.1, 1, None]}
    assert list(design.arms) == one_change(factors)
    assert design.seeds == (0, 1, 2)
    assert design.config(design.arms[1], 2) == preset(
        "as-it-stood", PROFILES["tiny"], steps=20, learning_rate=1e-3, warmup_steps=5, clip_norm=0.1, seed=2
    )
    assert design.config(design.arms[3], 0).clip_norm is None


def test_arms_one_by_one(read):
    design = read("seeds: [4, 7]\nprofile: tiny\narms:\n  as it stood:\n  repaired: {head: logits, learning_rate: 1.e-3}\n")
    assert [(arm.name, arm.against) for arm in design.arms] == [("as it stood", None), ("repaired", "as it stood")]
    assert design.config(design.arms[0], 4) == preset("as-it-stood", PROFILES["tiny"], seed=4)
    assert design.config(design.arms[1], 7) == preset("repaired", PROFILES["tiny"], seed=7)


def test_both_heads(read):
    design = read(GOOD + "for_each: {head: [rectified, logits]}")
    assert len(design.arms) == 8
    assert {design.config(arm, 0).model.head for arm in design.arms if arm.group == "head=logits"} == {"logits"}


def test_fraction(read):
    factors = {"learning_rate": [1e-4, 1e-3], "clip_norm": [0.1, 10], "loss.dice": [0.5, 2], "flip": [False, True]}
    factors |= {"head": ["rectified", "logits"]}
    lines = "\n".join(f"  {name}: {str(levels).lower()}".replace("'", "") for name, levels in factors.items())
    design = read(f"seeds: 1\nprofile: tiny\ndesign: fractional-factorial\nfactors:\n{lines}")
    assert list(design.arms) == fractional_factorial(factors)


def test_profile_is_the_machines_where_none_is_named(read, monkeypatch):
    design = read(GOOD.replace("profile: tiny\n", ""))
    for name in ("tiny", "small"):
        monkeypatch.setenv("OCCLAB_PROFILE", name)
        assert design.config(design.arms[0], 0).grid == PROFILES[name].grid


@pytest.mark.parametrize("number", ["1e-3", "1E-3", "1.e-3", "+1e-03", ".1e-2", "0.001"])
def test_numbers_as_people_write_them(read, number):
    assert read(GOOD.replace("1e-3", number)).arms[1].changes["learning_rate"] == 1e-3


def test_a_text_that_looks_like_a_number_stays_one_in_quotes(read):
    with pytest.raises(OcclabError, match="learning_rate must be a finite number above 0, got '1e-3'"):
        read(GOOD.replace("1e-3", "'1e-3'"))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("seeds:", "seed:", "unknown key 'seed'; the nearest valid one is 'seeds'"),
        ("factors:", "factor:", "unknown key 'factor'; the nearest valid one is 'factors'"),
        ("profile: tiny", "profile: tinny", "unknown profile 'tinny'; the nearest valid one is 'tiny'"),
        ("as-it-stood", "as-it-sat", "unknown preset 'as-it-sat'; the nearest valid one is 'as-it-stood'"),
        ("one change", "one chance", "unknown design 'one chance'; the nearest valid one is 'one change'"),
        (
            "learning_rate",
            "learning_rat",
            "arm 'higher rate': unknown setting 'learning_rat'; the nearest valid one is 'learning_rate'",
        ),
        ("clip_norm:", "clip:", "arm 'base': unknown setting 'clip'; the nearest valid one is 'clip_norm'"),
        ("base: {steps: 20}", "steps: 20", "steps is a setting of the training: write it under base, factors or arms"),
        ("steps: 20", "stpes: 20", "unknown setting 'stpes'; the nearest valid one is 'steps'"),
        ("steps: 20", "steps: 0", "steps must be a whole number of at least 1"),
        ("seeds: 3", "seeds: 0", "seeds must be a number of seeds"),
        ("seeds: 3", "seeds: [1, 1]", "different whole numbers, got [1, 1]"),
        ("seeds: 3", "seeds: true", "seeds must be a number of seeds"),
        ("seeds: 3\n", "", "seeds must be a number of seeds"),
        ("design: one change\n", "", "factors need a design: one of one change, ladder"),
        ("design: one change", "arms: {a: {}}", "either factors with a design, or arms"),
        ("  clip_norm:", "  higher rate: {}\n  clip_norm:", "'higher rate' is there twice, the second time in line 9"),
        ("[0.1, 1, null]", "[0.1, 1, null", "expected YAML, found expected ',' or ']'"),
        ("[0.1, 1, null]", "[0.1, 0.1]", "arms 'base' and 'clip_norm=0.1' are the same training"),
        ("[0.1, 1, null]", "!!python/object:os.system [x]", "could not determine a constructor"),
        ("{steps: 20}", "20", "base must be a mapping"),
        (
            "{steps: 20}",
            "{custom_keys: {refin3: {lr_mult: 2}}}",
            "arm 'base': custom_keys refin3 match no parameter; names begin",
        ),
        ("{steps: 20}", "{custom_keys: {3: {lr_mult: 2}}}", "custom_keys must map parts of parameters' names, got the key 3"),
        ("{steps: 20}", "{loss.height_weights: [1, 2]}", "one weight for each of 32 heights, got 2"),
        (
            "{steps: 20}",
            "{flip: true, grid.point_cloud_range: [0, -10.8, -5, 21.6, 10.8, 3]}",
            "arm 'base': flip needs a grid centred on 0",
        ),
        ("{steps: 20}", "{1: 20}", "unknown setting '1'"),
        ("{steps: 20}", "{steps: 20, 2020-99-99: 1}", "expected a design as YAML (month must be in 1..12)"),
        ("{steps: 20}", f"{{loss.dice: 1{'0' * 400}}}", "do not fit"),
        ("higher rate: {", "3: {", "factor 3 must be a text; put it in quotes"),
        ("seeds: 3", f"seeds: 1{'0' * 400}", "expected a design as YAML"),
        (GOOD, "- a", "expected keys such as preset, seeds and factors, got list"),
        (GOOD, "", "expected keys such as preset, seeds and factors, got NoneType"),
        (GOOD, "seeds: 1\narms: {}", "at least one arm"),
        (GOOD, "seeds: 1\narms: {a: 3}", "arm 'a' must be a mapping of changes, got 3"),
        (GOOD, "seeds: 1\ndesign: ladder\narms: {a: {}}", "design goes with factors"),
        (GOOD, "seeds: 1\ndesign: ladder\nfactors: {on: 1e-3}", "factor True must be"),
    ],
)
def test_a_mistake_is_one_sentence(read, old, new, says):
    assert old in GOOD
    with pytest.raises(OcclabError) as error:
        read(GOOD.replace(old, new))
    message = str(error.value)
    assert says in message
    assert "design.yaml: " in message
    assert "\n" not in message


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(OcclabError, match=r"nowhere\.yaml: expected a design"):
        read_design(tmp_path / "nowhere.yaml")


def test_the_recommended_recipe_has_its_own_size(read):
    design = read(GOOD.replace("as-it-stood", "recommended").replace("base: {steps: 20}\n", ""))
    assert design.size() == PROFILES["tiny"].for_recipe()
    assert design.config(design.arms[0], 0) == preset("recommended", PROFILES["tiny"].for_recipe(), clip_norm=0.1)
    assert read(GOOD).size() == PROFILES["tiny"]
