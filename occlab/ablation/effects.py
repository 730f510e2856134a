"""Main effects and two-way interactions of a two-level factorial, full or fractional, from seed-paired contrasts.

The main effect of A is the mean of the arms with A on minus the mean of those with A off. The interaction of A and B is
half of what A does with B on minus what it does with B off: above 0 where together they raise the measure more than one
by one (Montgomery, *Design and Analysis of Experiments*, chapter 6). Each seed gives one such number, and the numbers of
all seeds go through the interval, the test and the verdict of :func:`~occlab.ablation.compare`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ..errors import OcclabError
from .designs import Arm
from .statistics import Comparison, Values, finite, infer, seeds_of


@dataclass(frozen=True)
class Effect:
    """One main effect or two-way interaction."""

    factors: tuple[str, ...]
    """One name, or the two that interact."""
    comparison: Comparison
    """``difference`` is the effect; of an interaction, ``better`` says that the two factors help each other."""
    aliases: tuple[str, ...]
    """Effects of up to three factors that the same contrast measures, with their sign: what is estimated is the sum."""

    @property
    def name(self) -> str:
        return " x ".join(self.factors)


def coded(arms: Sequence[Arm]) -> dict[str, list[int]]:
    """The design matrix of a two-level factorial: for each factor, -1 or +1 an arm.

    Raises:
        OcclabError: the arms are no factorial, or a factor has more than two levels.
    """
    names = list(arms[0].levels) if arms else []
    if not names or any(list(arm.levels) != names for arm in arms):
        raise OcclabError("effects need the arms of a factorial, where every factor has a level in every arm")
    for arm in arms:
        for name, level in arm.levels.items():
            if level > 1:
                raise OcclabError(f"effects need factors of two levels, and {name!r} has more")
    return {name: [2 * arm.levels[name] - 1 for arm in arms] for name in names}


def effects(
    columns: Mapping[str, Sequence[int]],
    values: Sequence[Values],
    *,
    higher_is_better: bool,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[Effect]:
    """All effects that the design can tell apart: main effects first, then interactions.

    Two effects measured by one contrast are one entry: the first, with the second among its aliases. A seed counts only
    where every arm has a finite number; where a seed is dropped there is no verdict.

    >>> both = effects({"A": [-1, 1, -1, 1], "B": [-1, -1, 1, 1]}, [[0.0], [1.0], [2.0], [7.0]], higher_is_better=True)
    >>> [(effect.name, effect.comparison.difference) for effect in both]
    [('A', 3.0), ('B', 4.0), ('A x B', 2.0)]

    Args:
        columns: the design matrix, -1 or +1 an arm for each factor, as from :func:`coded`.
        values: for each arm, a number a seed.

    Raises:
        OcclabError: columns and values do not fit each other, or the arms are no (fraction of a) factorial, so that an
            effect cannot be estimated apart from others.
    """
    signs = {(name,): np.array(column, dtype=int) for name, column in columns.items()}
    if not signs or any(len(column) != len(values) or set(column.tolist()) != {-1, 1} for column in signs.values()):
        raise OcclabError(f"effects expects columns of -1 and +1, both in each, for the {len(values)} arms")
    for order in (2, 3):
        for names in combinations(columns, order):
            signs[names] = np.prod([signs[name,] for name in names], axis=0)

    arms = [finite(each) for each in values]
    seeds = sorted(set.intersection(*(set(arm) for arm in arms)))
    lost = sorted(set().union(*map(seeds_of, values)) - set(seeds))
    table = np.array([[arm[s] for s in seeds] for arm in arms])  # (arms, seeds)
    scale = float(np.abs(table).max(initial=0.0))
    varies = bool(len(seeds) and (np.ptp(table, axis=1) > 0).any())

    found: list[Effect] = []
    known: set[tuple[str, ...]] = set()
    for names, column in signs.items():
        if len(names) > 2 or names in known:
            continue
        same = {
            other: int(column @ theirs) // len(column) for other, theirs in signs.items() if abs(column @ theirs) == len(column)
        }
        _refuse_partial(names, column, signs)
        known |= set(same)
        contrast = column @ table / (len(column) / 2)
        comparison = infer(
            dict(zip(seeds, contrast.tolist(), strict=True)),
            (lost, lost),
            higher_is_better,
            confidence,
            seed,
            scale=scale,
            varies=varies,
        )
        aliases = tuple(("" if sign > 0 else "-") + " x ".join(other) for other, sign in same.items() if other != names)
        found.append(Effect(names, comparison, aliases))
    return found


def _refuse_partial(names: tuple[str, ...], column: np.ndarray, signs: Mapping[tuple[str, ...], np.ndarray]) -> None:
    """Contrasts that are neither the same nor independent, as when an arm is missing."""
    if column.sum():
        raise OcclabError(f"the arms do not have {' x '.join(names)} at each level equally often: the design is not complete")
    for other, theirs in signs.items():
        if len(other) < 3 and 0 < abs(int(column @ theirs)) < len(column):
            raise OcclabError(
                f"{' x '.join(names)} cannot be told from a part of {' x '.join(other)}: the design is not complete"
            )
