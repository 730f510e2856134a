"""What the doctor says: findings, each with the numbers that convict, ranked to one root cause."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import OcclabError

Verdict = Literal["fail", "warn", "note", "pass", "not-measurable"]
VERDICTS: tuple[Verdict, ...] = ("fail", "warn", "note", "not-measurable", "pass")

CAUSES = (
    "non-finite",
    "class-map",
    "empty-targets",
    "input-scale",
    "duplicate-frames",
    "bounded-output",
    "loss-normalisation",
    "loss-term-dominance",
    "frozen-parameters",
    "dead-head",
    "misaligned-target",
    "output-prior",
    "initial-loss",
    "schedule",
    "clipping",
    "gradient-scale",
    "update-ratio",
    "dead-channels",
    "ignores-input",
    "soft-target-floor",
    "diverged",
    "spikes",
    "cannot-overfit",
    "threshold",
    "eval-gap",
    "constant-prediction",
    "plateau-at-floor",
    "low-skill",
    "accuracy-trap",
    "silent-option",
    "not-finished",
    "too-few-seeds",
)
"""Every check, causes before what follows from them: of several failing ones the first is the root cause. Data before
structure, structure before optimisation, and last what only names a symptom."""


@dataclass(frozen=True)
class Experiment:
    """One change, and the number that it should give."""

    change: str
    """What to do, as an imperative: "Drop the activation before the sigmoid"."""
    quantity: str
    """What is measured then: "loss after 50 steps on this batch"."""
    low: float
    high: float
    """The prediction: the quantity lies between the two."""
    run: Callable[[], tuple[float, float]] | None = field(default=None, repr=False, compare=False)
    """Measures the quantity without and with the change, on copies; None where there is only a log to go by."""

    def __str__(self) -> str:
        return f"{self.change}: {self.quantity} should come out between {self.low:.4g} and {self.high:.4g}."


@dataclass(frozen=True)
class Trial:
    """An experiment that was run."""

    experiment: Experiment
    without: float
    """The quantity as things are."""
    measured: float
    """The quantity with the change."""

    @property
    def held(self) -> bool:
        """Did the prediction hold?"""
        return self.experiment.low <= self.measured <= self.experiment.high

    def __str__(self) -> str:
        e, verdict = self.experiment, "held" if self.held else "did not hold"
        return (
            f"{e.change}: {e.quantity} went from {self.without:.4g} to {self.measured:.4g}; "
            f"predicted {e.low:.4g} to {e.high:.4g}. The prediction {verdict}."
        )


@dataclass(frozen=True)
class Finding:
    """The outcome of one check."""

    id: str
    verdict: Verdict
    title: str
    """One sentence with the number in it."""
    evidence: dict[str, Any] = field(default_factory=dict)
    """Measured numbers by name, the ``cutoff`` they were held against and its ``source``; JSON-able. Some checks name a
    ``kind``, such as ``relu-before-sigmoid``."""
    why: str = ""
    """What that does to training."""
    fix: str = ""
    """Code, where the verdict is fail or warn."""
    next_experiment: Experiment | None = None

    def __post_init__(self) -> None:
        if self.id not in CAUSES or self.verdict not in VERDICTS:
            raise OcclabError(f"unknown check {self.id!r} or verdict {self.verdict!r}")

    @property
    def alarming(self) -> bool:
        return self.verdict in ("fail", "warn")

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        experiment = None if self.next_experiment is None else str(self.next_experiment)
        texts = {name: getattr(self, name) for name in ("id", "verdict", "title", "evidence", "why", "fix")}
        return texts | {"next_experiment": experiment}


@dataclass(frozen=True)
class Report:
    """Findings, the root cause first."""

    findings: tuple[Finding, ...]
    subject: str
    """What was examined: a model's class or a file's name."""
    curves: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What was measured along the way, for the pictures: ``loss`` (steps, values), ``floors`` {name: loss},
    ``histogram`` (edges, counts) of the probabilities."""

    @property
    def cause(self) -> str | None:
        """Id of the root cause; None where nothing fails or warns."""
        return self.findings[0].id if self.findings and self.findings[0].alarming else None

    @property
    def consequences(self) -> tuple[Finding, ...]:
        """The other failing and warning findings: they may go away with the cause."""
        return tuple(f for f in self.findings[1:] if f.alarming)

    def __getitem__(self, id: str) -> Finding:
        """The finding of one check."""
        return next(f for f in self.findings if f.id == id)

    def to_dict(self) -> dict[str, Any]:
        return {"cause": self.cause, "findings": [f.to_dict() for f in self.findings]}

    def to_json(self) -> str:
        """``{"cause": id or null, "findings": [...]}``; numbers that are not finite become null."""
        return json.dumps(_finite(self.to_dict()), allow_nan=False)

    def try_next(self) -> Trial:
        """Run the first experiment that can be run, on copies, and say whether its prediction held.

        Raises:
            OcclabError: no finding has one.
        """
        for finding in self.findings:
            if finding.next_experiment is not None and finding.next_experiment.run is not None:
                return Trial(finding.next_experiment, *finding.next_experiment.run())
        raise OcclabError(f"the report on {self.subject} has no experiment to run")

    def __str__(self) -> str:
        from .report import as_text

        return as_text(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text("..." if cycle else str(self))  # IPython's text/plain, where no HTML is shown

    def _repr_html_(self) -> str:
        from .report import as_html

        return as_html(self)


def ranked(findings: Iterable[Finding], subject: str, curves: Mapping[str, Any] | None = None) -> Report:
    """A report with the root cause first: failing before warning, and among those causes before consequences."""
    order = sorted(findings, key=lambda f: (VERDICTS.index(f.verdict), CAUSES.index(f.id)))
    return Report(tuple(order), subject, curves or {})


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _finite(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float):
        return value if value - value == 0 else None
    return value
