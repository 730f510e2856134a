"""The doctor in the fault zoo: what it names, beside what was planted."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .faults import FAULTS, PAIRS, Fault
from .finding import CAUSES
from .healthy import healthy_setups
from .setups import ARCHITECTURES, Setup, plain


@dataclass(frozen=True)
class Outcome:
    """One diagnosis of the zoo."""

    name: str
    architecture: str
    planted: tuple[Fault, ...]
    """None, one or two."""
    cause: str | None
    """What the report names."""
    kind: str | None
    alarms: tuple[str, ...]
    """Every id that fails or warns, the cause first."""
    seconds: float
    error: str | None = None
    """What the doctor raised in place of a report."""

    @property
    def named(self) -> bool:
        """Is the cause what was planted, to the id? Of a healthy set-up: is there no alarm?"""
        return self.error is None and self.cause in ([fault.expected for fault in self.planted] or [None])

    @property
    def excused(self) -> bool:
        """Is it that, or another id for the same thing?"""
        return self.named or (self.error is None and any(self.cause in fault.also for fault in self.planted))

    @property
    def kind_named(self) -> bool:
        """Is the kind right too, where one is told?"""
        return self.named and all(fault.kind in (None, self.kind) for fault in self.planted if fault.expected == self.cause)


def examine(setup: Setup, planted: tuple[Fault, ...] = ()) -> Outcome:
    """Let the doctor look at a set-up."""
    start, name = time.perf_counter(), " + ".join(fault.name for fault in planted) or setup.name
    try:
        report = setup.diagnose()
    except Exception as error:  # a doctor that raises has missed the fault; the zoo goes on
        spent, said = time.perf_counter() - start, f"{type(error).__name__}: {error}"
        return Outcome(name, setup.architecture, planted, None, None, (), spent, said)
    alarms = tuple(finding.id for finding in report.findings if finding.alarming)
    kind = report.findings[0].evidence.get("kind") if report.cause else None
    return Outcome(name, setup.architecture, planted, report.cause, kind, alarms, time.perf_counter() - start)


def planted(faults: Sequence[Fault], architecture: str, seed: int = 0) -> Setup:
    """The healthy set-up of an architecture with these faults, one after the other."""
    setup = plain(architecture, seed)
    for fault in faults:
        setup = fault.into(setup, seed)
    return setup


def examine_singles(seed: int = 0, faults: Iterable[Fault] = FAULTS) -> list[Outcome]:
    """Every fault on both architectures."""
    return [examine(planted((f,), a, seed), (f,)) for f in faults for a in ARCHITECTURES]


def examine_pairs(seed: int = 0) -> list[Outcome]:
    """Every pair of faults on both architectures."""
    return [examine(planted(pair, a, seed), pair) for pair in PAIRS for a in ARCHITECTURES]


def examine_healthy() -> list[Outcome]:
    """Every healthy set-up."""
    return [examine(setup) for setup in healthy_setups()]


def zoo_table(outcomes: Iterable[Outcome] | None = None) -> str:
    """The confusion matrix of single faults and healthy set-ups, in Markdown.

    Args:
        outcomes: of :func:`examine_singles` and :func:`examine_healthy`, in any order; None runs both, which takes minutes.

    Returns:
        A row for each planted cause, a numbered column for each; a cell counts diagnoses. "none" is a report without a cause.
    """
    outcomes = [*examine_singles(), *examine_healthy()] if outcomes is None else list(outcomes)
    counts = Counter(
        (o.planted[0].expected if o.planted else "none", "error" if o.error else o.cause or "none") for o in outcomes
    )
    used = {name for pair in counts for name in pair}
    names = [name for name in (*CAUSES, "none", "error") if name in used]
    rows = [name for name in names if any(expected == name for expected, _ in counts)]
    head = [*(str(i) for i, _ in enumerate(names, 1))]
    lines = [["", "planted", *head], ["--:", ":--", *("--:" for _ in names)]]
    for name in rows:
        cells = [str(counts[name, found] or "·") for found in names]
        lines.append([str(names.index(name) + 1), "none (healthy)" if name == "none" else f"`{name}`", *cells])
    lines += [[str(names.index(name) + 1), f"`{name}`, only named", *("" for _ in names)] for name in names if name not in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def misses(outcomes: Iterable[Outcome]) -> list[str]:
    """A line for each diagnosis that is not as it should be."""
    lines = []
    for o in outcomes:
        if not o.named or not o.kind_named:
            wanted = " or ".join(f"{f.expected}{f' ({f.kind})' if f.kind else ''}" for f in o.planted) or "no alarm"
            got = o.error or f"{o.cause}{f' ({o.kind})' if o.kind else ''}; alarms: {', '.join(o.alarms) or 'none'}"
            lines.append(f"{o.architecture}: {o.name}: expected {wanted}, got {got}")
    return lines
