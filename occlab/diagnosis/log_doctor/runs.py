"""Checks of a folder with several runs: options that change nothing, and seeds too few to tell a difference."""

from collections.abc import Sequence
from dataclasses import fields
from itertools import combinations

import numpy as np

from ..finding import Finding
from ..logs.log import LogSettings, TrainingLog
from ..report.wording import clean
from .case import LogCase, finite, unmeasured
from .trend import FEWEST_ROWS

SEEDS = 6
"""Fewest pairs of runs with which a sign-flip test can reach p < 0.05: its least p is 2^(1 - n)."""
RUNS = 60
"""Runs that are compared with one another."""
PER_ITERATION = 100
"""Rows from which on an unreached limit is worth naming."""

_ABOUT = ("seed", "work_dir", "exp_name", "load_from", "resume", "timestamp", "version")
"""Lines of a configuration with these words do not make it another one."""


def silent_option(c: LogCase, logs: Sequence[TrainingLog] = ()) -> Finding:
    """A setting that differs between two runs and changes nothing, or a limit that is never reached."""
    for one, other in combinations(list(logs)[:RUNS], 2):
        setting = difference(one.settings, other.settings)
        if setting is not None and same_loss(one, other):
            names = [clean(_name(log), 60) for log in (one, other)]
            title = f"{names[0]} and {names[1]} differ in {setting}, and their losses are the same to the last bit."
            evidence = {"setting": setting, "runs": names, "rows": len(one.training["loss"].value), "cutoff": 0}
            evidence["source"] = "bit-identical curves"
            why = "The setting does not reach the training: what was compared is one run with itself."
            fix = "print(config)  # in the training script, where the setting should be used"
            return Finding("silent-option", "warn", title, evidence, why, fix)
    limit, norm = c.log.settings.clip_norm, c.norm
    if limit and norm is not None and c.log.window == 1 and len(norm.value) >= PER_ITERATION and norm.value.max() < limit:
        title = f"The clipping norm of {limit:.3g} is never reached: the largest of {len(norm.value)} gradient norms is "
        evidence = {
            "setting": "clip_norm",
            "largest": float(norm.value.max()),
            "cutoff": limit,
            "source": "norms of single steps",
        }
        return Finding("silent-option", "note", f"{title}{norm.value.max():.3g}.", evidence)
    if len(logs) < 2:
        return unmeasured("silent-option", "Needs two runs that differ in one setting.")
    return Finding("silent-option", "pass", f"No two of {len(logs)} runs differ in a setting and not in their losses.")


def too_few_seeds(logs: Sequence[TrainingLog]) -> Finding:
    """Runs of one configuration with different seeds: how many?"""
    groups: dict[tuple, set[int]] = {}
    for log in logs:
        if log.settings.seed is not None:
            groups.setdefault(configuration(log.settings), set()).add(log.settings.seed)
    most = max((len(seeds) for seeds in groups.values()), default=0)
    if most < 2:
        return unmeasured("too-few-seeds", "Needs runs of one configuration with different seeds.")
    least_p = 2.0 ** (1 - most)
    evidence = {"seeds": most, "least_p": least_p, "cutoff": SEEDS, "source": "sign-flip permutation test, two-sided"}
    title = f"{most} seeds of one configuration: the least p that a sign-flip test of pairs can reach is {least_p:.3g}."
    return Finding("too-few-seeds", "note" if most < SEEDS else "pass", title, evidence)


def difference(one: LogSettings, other: LogSettings) -> str | None:
    """The setting in which two runs differ; None where it is none, several, or only how long they last."""
    names = [f.name for f in fields(LogSettings) if f.name not in ("text", "total_steps")]
    pairs = {name: (getattr(one, name), getattr(other, name)) for name in names}
    found = [name for name, (a, b) in pairs.items() if a is not None and b is not None and a != b]
    if len(found) == 1:
        a, b = pairs[found[0]]
        return clean(f"{found[0]} ({a} and {b})", 120)
    return None


def same_loss(one: TrainingLog, other: TrainingLog) -> bool:
    """Are two loss curves bit for bit the same, and more than a constant?"""
    a, b = finite(one.training.get("loss")), finite(other.training.get("loss"))
    if a is None or b is None or len(a.value) != len(b.value) or len(a.value) < FEWEST_ROWS:
        return False
    return np.array_equal(a.value, b.value) and len(np.unique(a.value)) > FEWEST_ROWS // 2


def configuration(settings: LogSettings) -> tuple:
    """What two runs of one configuration have in common."""
    named = tuple(getattr(settings, f.name) for f in fields(LogSettings) if f.name not in ("text", "seed"))
    lines = (line.strip() for line in settings.text.splitlines())
    return (*named, tuple(line for line in lines if line and not any(word in line.lower() for word in _ABOUT)))


def _name(log: TrainingLog) -> str:
    """File and the folder that tells it from the others."""
    return "/".join(log.path.parts[-2:])
