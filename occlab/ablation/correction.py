"""Several comparisons at once: without a correction, one of twenty arms that do nothing looks like a find."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..errors import OcclabError
from .statistics import Comparison, seeds_needed


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p, in the order given: the chance of one false alarm among all stays under the level (Holm 1979)."""
    p = np.asarray(p_values, dtype=float)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise OcclabError(f"holm expects p values in [0, 1], got {p_values!r}")
    order = np.argsort(p, kind="stable")
    adjusted = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    result = np.empty_like(adjusted)
    result[order] = adjusted
    return result.tolist()


def corrected(comparisons: Mapping[str, Comparison]) -> dict[str, Comparison]:
    """Several comparisons made at once, with Holm's correction: verdicts that do not survive it are taken back."""
    tested = {name: c.p for name, c in comparisons.items() if c.p is not None}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    result = {}
    for name, c in comparisons.items():
        c = replace(c, adjusted_p=adjusted.get(name))
        if c.verdict in ("better", "worse") and c.adjusted_p > 1 - c.confidence:
            needed = seeds_needed(len(tested), c.confidence)
            reason = f"p = {c.p:.2g}, but {c.adjusted_p:.2g} after Holm's correction for {len(tested)} comparisons"
            if c.n < needed:
                c = replace(c, verdict="too few seeds", reason=f"{reason}, which needs {needed} pairs")
            else:
                c = replace(c, verdict="no difference shown", reason=reason)
        result[name] = c
    return result
