"""Every claim gets a row, and its verdict follows from the runs."""

import re
from pathlib import Path

import pytest
import yaml

from occlab import OcclabError
from occlab.ablation import read_design, scorecard
from occlab.ablation.rows import COLUMNS
from occlab.ablation.scorecard import ALL, BASE, CHECKS, FORECASTS, HEADS, OBSERVATIONS, PROPOSALS

DESIGNS = Path(__file__).parents[2] / "notebooks" / "designs"
NOISE = (-0.003, 0.002, 0.001, -0.001, 0.003, -0.002)
START = {"first_loss": 1.36, "settled_loss": 1.195, "reduction": 0.12, "gradient_norm_median": 0.8, "held_out_iou": 0.01}


def rows(arm, head="rectified", seeds=6, **values):
    noisy = {name: [value + noise for noise in NOISE] for name, value in (START | values).items()}
    about = dict.fromkeys(COLUMNS) | {"head": head, "status": "done"}
    return [
        about | {"arm": f"head={head}: {arm}", "seed": seed} | {name: all_[seed] for name, all_ in noisy.items()}
        for seed in range(seeds)
    ]


def tables(seeds=6, **gains):
    """Both tables, with the held-out IoU of some arms raised."""
    late = {"floor_distance": -0.4, "late_fall": 0.1, "gradient_norm_late": 1.0}
    claims = []
    for head in HEADS:
        for arm in (BASE, *PROPOSALS.values()):
            gain = gains.get(head, {}).get(arm, 0.0)
            more = late if arm == ALL else {}
            claims += rows(arm, head, seeds, held_out_iou=0.01 + gain, **more)
    return rows("base", seeds=seeds), claims


def verdicts(claims):
    return {(c.claim, c.head): c.verdict for c in claims}


def test_a_row_for_every_claim_and_head():
    found = verdicts(scorecard(*tables()))
    wanted = {(claim, head) for claim in (*PROPOSALS, *FORECASTS) for head in HEADS}
    assert set(found) == wanted | {(claim, "rectified") for claim in (*OBSERVATIONS, *CHECKS)}


def test_the_designs_have_the_arms_it_needs():
    names = {arm.name for arm in read_design(DESIGNS / "claims.yaml").arms}
    assert {f"head={head}: {arm}" for head in HEADS for arm in (BASE, *PROPOSALS.values())} == names
    assert "head=rectified: base" in {arm.name for arm in read_design(DESIGNS / "five_fixes.yaml").arms}


@pytest.mark.parametrize("path", sorted(DESIGNS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_design_that_ships_is_whole_and_says_how_many_runs_it_has(path):
    design = read_design(path)
    text = path.read_text()
    assert re.search(rf"# {len(design.arms) * len(design.seeds)} runs\b", text)
    assert yaml.safe_load(text)["profile"] == "small"


def test_a_gain_is_supported_no_gain_refuted_and_few_seeds_decide_nothing():
    arm = "learning rate 1e-3"
    claim = next(claim for claim, name in PROPOSALS.items() if name == arm)
    found = verdicts(scorecard(*tables(logits={arm: 0.2})))
    assert found[claim, "logits"] == "supported"
    assert found[claim, "rectified"] == "refuted"
    few = verdicts(scorecard(*tables(seeds=5, logits={arm: 0.2})))
    assert set(few.values()) == {"not decided"}


def test_a_gain_about_as_large_as_what_counts_is_not_decided():
    five_fixes, claims = tables()
    for row in claims:
        if row["arm"] == "head=logits: flips":
            row["held_out_iou"] += 0.02 + 4 * NOISE[row["seed"]]
    found = {(c.claim, c.head): c for c in scorecard(five_fixes, claims)}["flips of the frames", "logits"]
    assert found.verdict == "not decided"
    assert found.low < 0.02 < found.high
    assert re.match(r"the gain is \+0\.0\d+ to \+0\.0\d+, p = ", found.because)


def test_ranges_are_held_against_the_interval_of_the_mean():
    five_fixes, claims = tables()
    found = verdicts(scorecard(five_fixes, claims))
    (check,) = CHECKS
    assert found[check, "rectified"] == "not decided"  # the made-up rows hold no distance to the floor
    for row in claims:
        if row["arm"] == "head=rectified: as it stood":
            row["floor_distance"] = 0.01 + NOISE[row["seed"]]
    assert verdicts(scorecard(five_fixes, claims))[check, "rectified"] == "refuted"
    assert found["it settles at 1.19 to 1.20", "rectified"] == "supported"
    assert found["gradient norms of 0.0026 to 0.1925", "rectified"] == "refuted"
    assert found["with all fixes the loss is 30 to 50 % lower", "logits"] == "supported"


def test_a_missing_arm_is_named():
    five_fixes, claims = tables()
    kept = [row for row in claims if row["arm"] != "head=logits: flips"]
    with pytest.raises(OcclabError, match="'flips' with head logits"):
        scorecard(five_fixes, kept)
