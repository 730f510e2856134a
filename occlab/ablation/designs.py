"""Which trainings to compare: lists of arms, made from a base and the factors that may change it.

A *factor* is written in one of two ways:

    "slow start": {"learning_rate": 1e-3, "warmup_steps": 50}    a switch: off is the base, on makes all these changes
    "learning_rate": [1e-4, 1e-3, 1e-2]                          one setting and its levels, the first of them the base's

An *arm* is one training, whatever its seed. Every function returns the arm that the others are judged against first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, product
from math import prod
from typing import Any

from ..errors import OcclabError
from ..training import TrainConfig
from .changes import changed, flatten, overlap

Factors = Mapping[str, Mapping[str, Any] | Sequence[Any]]

GENERATORS = {5: ("ABCD",), 6: ("ABCDE",), 7: ("ABCDEF",), 8: ("ABCD", "ABEF")}
"""For k two-level factors A, B, C ...: the products of columns that the last ones are set to.

The minimum-aberration designs 2^(5-1) V, 2^(6-1) VI, 2^(7-1) VII and 2^(8-2) V of Montgomery, *Design and Analysis of
Experiments*, chapter 8, and Box, Hunter and Hunter, *Statistics for Experimenters*, chapter 6; also in the NIST/SEMATECH
e-Handbook, 5.3.3.4.7. With resolution V no main effect and no two-way interaction is mixed up with another one."""


@dataclass(frozen=True)
class Arm:
    """One training among those compared."""

    name: str
    changes: dict[str, Any] = field(default_factory=dict)
    """Settings that differ from the base, by dotted name; see :func:`apply`."""
    against: str | None = None
    """Name of the arm to compare with; None for an arm that is itself the yardstick."""
    levels: dict[str, int] = field(default_factory=dict)
    """In a factorial: which level each factor has here, counted from 0."""
    group: str = ""
    """Where a whole design is repeated, for instance for both heads: which repetition."""


def apply(arm: Arm, base: TrainConfig) -> TrainConfig:
    """The configuration of an arm.

    >>> apply(Arm("Dice 1", {"loss.dice": 1.0, "head": "logits"}), TrainConfig()).loss.dice
    1.0

    Raises:
        OcclabError: an unknown setting (the sentence holds the nearest valid one), or a value that does not fit.
    """
    try:
        return changed(base, arm.changes)
    except OcclabError as error:
        raise OcclabError(f"arm {arm.name!r}: {error}") from error


def one_change(factors: Factors) -> list[Arm]:
    """The base, and each factor alone at each of its other levels."""
    levels = _levels(factors)
    base = _join("base", [all_[0] for all_ in levels.values()])
    arms = [base]
    for name, (_, *others) in levels.items():
        for level in others:
            rest = [all_[0] for other, all_ in levels.items() if other != name]
            arms.append(replace(_join(level.name, [*rest, level]), against=base.name))
    return arms


def ladder(factors: Factors) -> list[Arm]:
    """The base, then one factor more at a time, each compared with the rung before it. A later factor may set what an
    earlier one did; a factor with several levels climbs them one by one."""
    levels = _levels(factors, may_overlap=True)
    rungs = [_join("base", [all_[0] for all_ in levels.values()])]
    for _, *others in levels.values():
        for level in others:
            changes = _update(rungs[-1].changes, level.changes)
            rungs.append(Arm(f"+ {level.name}", changes, against=rungs[-1].name))
    return rungs


def leave_one_out(factors: Factors) -> list[Arm]:
    """All two-level factors on, then each one off alone."""
    levels = _two(_levels(factors), "leave_one_out")
    on = {name: all_[1] for name, all_ in levels.items()}
    arms = [_join("all", list(on.values()))]
    for name, (off, _) in levels.items():
        arms.append(replace(_join(f"all but {name}", [off, *(on[n] for n in on if n != name)]), against="all"))
    return arms


def full_factorial(factors: Factors) -> list[Arm]:
    """Every combination of every level; the first arm is the base."""
    levels = _levels(factors)
    return [_combination(levels, chosen) for chosen in product(*(range(len(all_)) for all_ in levels.values()))]


def fractional_factorial(factors: Factors) -> list[Arm]:
    """A fraction of the full two-level factorial with resolution V or more, after :data:`GENERATORS`: 16 arms for 5
    factors, 32 for 6, 64 for 7 and 8. Up to 4 factors have no smaller design of resolution V than the full one.

    The fraction holds the arm with everything on, and not always the base.

    Raises:
        OcclabError: more than 8 factors, or a factor with more than two levels.
    """
    levels = _two(_levels(factors), "fractional_factorial")
    k = len(levels)
    if k > 8:
        raise OcclabError(f"fractional_factorial knows designs of resolution V for up to 8 factors, got {k}")
    generators = GENERATORS.get(k, ())
    arms = []
    for free in product((-1, 1), repeat=k - len(generators)):
        made = [prod(free[ord(letter) - ord("A")] for letter in generator) for generator in generators]
        arms.append(_combination(levels, [(sign + 1) // 2 for sign in (*free, *made)]))
    return arms


def for_each(outer: Factors, arms: Sequence[Arm]) -> list[Arm]:
    """The whole design once for every combination of the outer factors' levels, such as both heads.

    >>> [arm.name for arm in for_each({"head": ["rectified", "logits"]}, one_change({"flips": {"flip": True}}))]
    ['head=rectified: base', 'head=rectified: flips', 'head=logits: base', 'head=logits: flips']
    """
    levels = _levels(outer)
    repeated = []
    for chosen in product(*(range(len(all_)) for all_ in levels.values())):
        picked = [all_[i] for all_, i in zip(levels.values(), chosen, strict=True)]
        group = ", ".join(level.name for level in picked if level.name) or "base"
        common = _join(group, picked).changes
        for arm in arms:
            if shared := overlap(flatten(common, TrainConfig()), flatten(arm.changes, TrainConfig())):
                raise OcclabError(f"{shared} is changed by the arm {arm.name!r}, and by what the design is repeated for")
            against = None if arm.against is None else f"{group}: {arm.against}"
            where = dict(zip(levels, chosen, strict=True)) | arm.levels if arm.levels else {}
            repeated.append(Arm(f"{group}: {arm.name}", common | arm.changes, against, where, group))
    return repeated


def _levels(factors: Factors, *, may_overlap: bool = False) -> dict[str, list[Arm]]:
    """The levels of each factor, as arms that change that factor only."""
    if not factors:
        raise OcclabError("a design needs at least one factor")
    levels = {}
    for name, chosen in factors.items():
        if not isinstance(name, str):
            raise OcclabError(f"factor {name!r} must be a text; put it in quotes")
        if isinstance(chosen, Mapping) and chosen:
            levels[name] = [Arm(""), Arm(name, dict(chosen))]
        elif isinstance(chosen, list | tuple) and len(chosen) > 1:
            levels[name] = [Arm(f"{name}={_short(value)}", {name: value}) for value in chosen]
        else:
            raise OcclabError(f"factor {name!r} must be a mapping of changes, or a list of two levels or more, got {chosen!r}")
    sets = {name: set().union(*(flatten(level.changes, TrainConfig()) for level in all_)) for name, all_ in levels.items()}
    for a, b in () if may_overlap else combinations(sets, 2):
        if shared := overlap(sets[a], sets[b]):
            raise OcclabError(f"factors {a!r} and {b!r} both change {shared}, so their effects cannot be told apart")
    return levels


def _two(levels: dict[str, list[Arm]], design: str) -> dict[str, list[Arm]]:
    for name, all_ in levels.items():
        if len(all_) != 2:
            raise OcclabError(f"{design} needs factors of two levels, and {name!r} has {len(all_)}")
    return levels


def _join(name: str, parts: Sequence[Arm]) -> Arm:
    changes: dict[str, Any] = {}
    for part in parts:
        changes = _update(changes, part.changes)
    return Arm(name, changes)


def _update(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Later changes win: a setting over itself, and a whole ``loss`` over an earlier ``loss.dice``."""
    flat = flatten(new, TrainConfig())
    kept = {k: v for k, v in flatten(old, TrainConfig()).items() if not any(f"{k}.".startswith(f"{name}.") for name in flat)}
    return kept | flat


def _combination(levels: dict[str, list[Arm]], chosen: Sequence[int]) -> Arm:
    picked = [all_[i] for all_, i in zip(levels.values(), chosen, strict=True)]
    name = " + ".join(level.name for level, i in zip(picked, chosen, strict=True) if i) or "base"
    return replace(_join(name, picked), levels=dict(zip(levels, chosen, strict=True)))


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
