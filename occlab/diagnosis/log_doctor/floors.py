"""Where a loss settled: at a value that needs no learning, or below it."""

import math
from typing import Any

from ..finding import Experiment, Finding
from ..report.wording import clean
from .case import LogCase, unmeasured
from .readings import DECIDE_BY, DICE, HALF, RATE, TOLERANCE, Reading, Stated
from .trend import COARSE, FLAT, Trend

EARLY = 0.25
"""A loss that learns only the base rate is there within the first quarter of the run and then flat (the "hockey stick" of
Karpathy's Recipe for Training Neural Networks); a network that learns takes longer."""
PRECISE = 0.02
"""Three standard errors of the level that settles a match, as a share of it."""
NO_SKILL, WEAK = 0.02, 0.10
"""1 - L / L(best constant): the share of the targets' entropy that is explained, as McFadden's pseudo-R2."""

FREE_HEAD = """# the last layer returns logits: no ReLU, softplus or clamp behind it, and one sigmoid only, inside the loss
model.head = torch.nn.Conv2d(model.head.in_channels, model.head.out_channels, 1)
loss = torch.nn.functional.binary_cross_entropy_with_logits(model(inputs), target)
print(occlab.diagnose(model, (inputs, target), torch.nn.functional.binary_cross_entropy_with_logits))"""
ONE_BATCH = """# does anything come through? the same batch, again and again
for step in range(300):
    optimizer.zero_grad()
    value = loss(model(inputs), target)
    value.backward()
    optimizer.step()
print(value.item())"""


def plateau_at_floor(c: LogCase) -> Finding:
    """Has the loss settled, and at what?"""
    t = c.trend
    if t is None:
        return c.too_short("plateau-at-floor")
    if t.state in ("falling", "rising"):
        word = "falling" if t.state == "falling" else "rising"
        share = abs(t.change) / max(abs(t.level), 1e-12)
        title = f"The loss has not settled: it is {word}, by {share:.1%} of its level over the last {t.window:.0%} of the rows."
        return Finding("plateau-at-floor", "pass", title, _evidence(c, t))
    if t.state == "unclear":
        return unmeasured("plateau-at-floor", f"The loss is too noisy to say whether it settled (to {t.resolution:.0%} only).")
    evidence = _evidence(c, t)
    where = f"The loss settled at {t.level:.4g}" + (f" (from {t.first:.4g}, {t.fallen:.0%} down)" if t.fallen > FLAT else "")
    where += f", to within {t.resolution:.0%}" if t.resolution > COARSE else ""
    mean = c.epoch_trend
    if mean is not None and mean.state == "falling":
        creep = -mean.change / max(abs(mean.level), 1e-12)
        where += f" (its mean over an epoch still creeps down, by {creep:.1%} over the last {mean.window:.0%})"
        evidence["epoch_mean"] = {"level": mean.level, "change": mean.change}
    if c.of_other_terms and c.stated.loss is None:
        title = f"{where}; it has terms of which nobody knows what a trivial prediction costs."
        return Finding("plateau-at-floor", "pass", title, evidence)
    found = c.readings
    if found:
        evidence["readings"] = [r.to_dict() for r in found]
    if found and _convicts(c, t, found):
        if len(found) == 1:  # its title says all of it
            del evidence["readings"]
        return _failing(c, t, found, where, evidence)
    if found:
        evidence["decide_by"] = _decide_by(c)
    at_any_rate = c.known.positive_rate is None  # then the base rate fits nearly every level: its shape has to fit as well
    if not found or (at_any_rate and t.arrived > EARLY and t.fallen > 0.5):
        title = f"{where}; no trivial floor fits that." if not found else f"{where}, gradually and far below its start."
        return Finding("plateau-at-floor", "pass", title, evidence)
    # The plainest reading is named, the others are listed: the level alone cannot tell which it is.
    more = {0: "", 1: "; one other reading fits"}.get(len(found) - 1, f"; {len(found) - 1} other readings fit")
    title = f"{where}: that is what {found[0].reading} would cost, with {found[0].assumes}{more}."
    why = "Some of these predictions need no learning. The level alone cannot tell which one it is; what would is listed below."
    return Finding("plateau-at-floor", "note", title, evidence, why)


def low_skill(c: LogCase) -> Finding:
    """How much of what could be learnt was learnt?"""
    t, stated = c.trend, c.known
    if t is None:
        return c.too_short("low-skill")
    if stated.positive_rate is None:
        return unmeasured("low-skill", "The rate of occupied cells is not known (--positive-rate).")
    if not stated.whole:
        return unmeasured("low-skill", "The loss is not known (--loss, and --dice-weight where it has a Dice term).")
    if stated.loss == "dice":
        floor = float(stated.cost(0.5, stated.positive_rate, per_channel=True))  # averaged over channels, near 1
    else:
        floor = max(stated.best_constant(stated.positive_rate, per_channel=c_)[1] for c_ in (False, True))
    skill = 1 - t.level / floor
    evidence = {"skill": skill, "level": t.level, "best_constant": floor, "cutoff": [NO_SKILL, WEAK], "source": "McFadden"}
    title = f"The loss of {t.level:.4g} explains {max(skill, 0):.1%} of what the best constant prediction ({floor:.4g}) leaves."
    if skill >= WEAK:
        return Finding("low-skill", "pass", title, evidence)
    if t.state != "settled":
        return Finding("low-skill", "note", f"{title} It is still moving.", evidence)
    why = "A prediction that ignores its input does as well, so that nothing of the scene has been learnt."
    return Finding("low-skill", "fail" if skill < NO_SKILL else "warn", title, evidence, why, ONE_BATCH, _one_batch(t.level))


def _convicts(c: LogCase, t: Trend, found: list[Reading]) -> bool:
    """Is the plateau a trivial floor beyond doubt? Then nothing else needs to be known, or the rate was given."""
    stated = c.known
    if not t.stuck or 3 * t.error > PRECISE * abs(t.level) or not any(r.trivial for r in found):
        return False
    if stated.positive_rate is None:
        return stated.whole and stated.pos_weight in (None, 1) and found[0].reading.startswith(HALF)
    if stated.whole:
        best = stated.best_constant(stated.positive_rate)[1]
        return found[0].trivial and t.level >= (1 - 2 * TOLERANCE) * best
    return found[0].trivial and "pos_weight" not in found[0].assumes


def _failing(c: LogCase, t: Trend, found: list[Reading], where: str, evidence: dict[str, Any]) -> Finding:
    first = found[0]
    title = f"{where}: the floor of {first.reading} is {first.value:.4g}, with {first.assumes}."
    evidence |= {"floor": first.value, "distance": abs(t.level - first.value) / max(abs(first.value), 1e-12)}
    verdict = "fail" if c.known.whole else "warn"
    if first.reading.startswith(HALF):
        lowest = c.known.best_constant(c.known.positive_rate)[1] if c.known.whole and c.known.positive_rate else 0.0
        why = "Behind a ReLU no probability goes under 1/2, and the cheapest such answer is 1/2 everywhere: a floor of the "
        why += "output head, which no learning rate lifts."
        change = "Drop the activation before the sigmoid, so that the last layer returns logits"
        experiment = Experiment(change, "the loss after 200 steps", 0.0, max(0.97 * t.level, lowest))
        return Finding("plateau-at-floor", verdict, title, evidence, why, FREE_HEAD, experiment)
    why = "This is what a prediction costs that knows how often a cell is occupied and nothing of the input."
    return Finding("plateau-at-floor", verdict, title, evidence, why, ONE_BATCH, _one_batch(t.level))


def _decide_by(c: LogCase) -> list[str]:
    """Second measurements that would tell, without the rate where it was given, and with the Dice term where it was logged."""
    said = [measurement for measurement in DECIDE_BY if c.known.positive_rate is None or measurement != RATE]
    dice = {name: level for name, level in _terms(c).items() if "dice" in name.lower()}
    if len(dice) == 1:
        (name, level), at = *dice.items(), said.index(DICE)
        said[at] = f"{DICE}: {clean(name, 60)} settled at {level:.4g} in this log"
    return said


def _one_batch(level: float) -> Experiment:
    return Experiment("Train on one batch only", "the loss on it after 300 steps", 0.0, 0.8 * abs(level))


def _evidence(c: LogCase, t: Trend) -> dict[str, Any]:
    found = {"level": t.level, "error": t.error, "first": t.first, "fallen": t.fallen, "rows": t.rows}
    found |= {"share_of_rows_asked": t.window, "most_of_the_fall_was_done_after": t.arrived}
    found |= {"change": t.change} | _terms(c)
    return found | {"cutoff": [FLAT, TOLERANCE], "source": "closed forms; Theil-Sen slope against its error"}


def _terms(c: LogCase) -> dict[str, float]:
    """The second measurement, where it was logged: the level of each term of a loss of few terms."""
    if len(c.terms) > 4:
        return {}
    levels = {name: float(curve.value[-max(len(curve.value) // 4, 1) :].mean()) for name, curve in c.terms.items()}
    return {name: level for name, level in levels.items() if math.isfinite(level)}


CHECKS = (plateau_at_floor, low_skill)


def stated_from(positive_rate: float | None, loss: Any, dice_weight: float | None, pos_weight: float | None) -> Stated:
    """What was said of a loss; a Dice weight or a pos_weight alone names the family too."""
    if loss is None and dice_weight is not None:
        loss = "bce+dice" if dice_weight else "bce"
    elif loss is None and pos_weight is not None:
        loss = "bce"
    return Stated(positive_rate, loss, dice_weight, pos_weight)
