"""The report as SARIF 2.1.0, the form in which build servers and code hosts take in what a tool has found.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/ . Only findings become results: code hosts show every result as an alarm,
whatever its ``kind``, so that what passed or could not be measured stands in the run's properties.
"""

import hashlib
import os
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..finding import Finding, Report
from . import wording

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
LEVELS = {"fail": "error", "warn": "warning", "note": "note"}

RULES = {
    "non-finite": "Losses, gradients or weights are not finite numbers.",
    "class-map": "The number of classes, the ignored class or the empty class does not fit the targets.",
    "empty-targets": "Targets hold no positive cell.",
    "input-scale": "Inputs are constant, not finite or far from the scale that networks are made for.",
    "duplicate-frames": "Frames of the batch are copies of each other.",
    "bounded-output": "The output cannot reach part of the probabilities, however far its last bias is pushed.",
    "loss-normalisation": "The loss is scaled by something other than the cells that count.",
    "frozen-parameters": "Parameters get no gradient, are not in the optimiser or do not move.",
    "dead-head": "The gradient at the output is zero nearly everywhere.",
    "misaligned-target": "Predictions fit the targets better after a flip, a turn or a shift.",
    "output-prior": "The first predictions are far from the rate of positive cells.",
    "initial-loss": "The first loss is not what an untrained output should cost.",
    "schedule": "The learning rate warms up too long or falls too early.",
    "clipping": "Gradient clipping sets the size of the steps.",
    "gradient-scale": "Gradients are so small that the optimiser's epsilon decides the steps.",
    "update-ratio": "Steps are too large or too small for the weights they change.",
    "dead-channels": "Channels are zero for every input.",
    "loss-term-dominance": "One term of the loss gives nearly all of the gradient.",
    "ignores-input": "The output does not depend on the input.",
    "soft-target-floor": "Soft targets keep the loss from falling further, however good the predictions.",
    "diverged": "The loss has risen far above where it was.",
    "spikes": "Loss or gradient jump far beyond their usual range.",
    "cannot-overfit": "The network cannot learn one batch by heart.",
    "threshold": "The best threshold is far from the one that is used.",
    "eval-gap": "The network predicts otherwise in evaluation mode than in training mode.",
    "constant-prediction": "The same is predicted for every input.",
    "plateau-at-floor": "The loss has stopped at the value of a prediction that needs no learning.",
    "low-skill": "The loss is no better than that of the best constant prediction.",
    "accuracy-trap": "Accuracy is high because most cells are empty.",
    "silent-option": "A value in the configuration changes nothing.",
    "not-finished": "The loss is still falling.",
    "too-few-seeds": "Too few seeds for a verdict.",
}
"""What each check says where it alarms: the same for every run, unlike a finding's title."""


def as_sarif(report: Report, path: Path | None = None) -> dict[str, Any]:
    """A report as a SARIF log of one run, fit for ``json.dump``.

    Args:
        path: the log that was examined: every result is located there, relative to the working directory where it lies
            under it. Without, results name the model.
    """
    from ... import __version__

    findings = [f for f in report.findings if f.verdict in LEVELS]
    ids = list(dict.fromkeys(f.id for f in findings))
    driver = {
        "name": "occlab doctor",
        "version": __version__,
        "rules": [_rule(next(f for f in findings if f.id == id)) for id in ids],
    }
    unmeasured = {id: why for why, of in wording.unmeasured(report) for id in of}
    properties = {
        "subject": wording.clean(report.subject),
        "cause": report.cause,
        "passed": [f.id for f in report.findings if f.verdict == "pass"],
        "notMeasurable": unmeasured,
    }
    run = {
        "tool": {"driver": driver},
        "results": [_result(report, f, ids.index(f.id), path) for f in findings],
        "columnKind": "unicodeCodePoints",
        "properties": properties,
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(finding: Finding) -> dict[str, Any]:
    why, fix = wording.clean(finding.why, 1000) or RULES[finding.id], wording.code(finding.fix)
    fence = "```"
    while fence in fix:
        fence += "`"
    markdown = escape(_unlinked(why), quote=False) + (f"\n\n{fence}python\n{fix}\n{fence}" if fix else "")
    return {
        "id": finding.id,
        "name": "".join(word.capitalize() for word in finding.id.split("-")),
        "shortDescription": {"text": RULES[finding.id]},
        "help": {"text": f"{why}\n\n{fix}" if fix else why, "markdown": markdown},
        "defaultConfiguration": {"level": LEVELS[finding.verdict]},
    }


def _result(report: Report, finding: Finding, rule: int, path: Path | None) -> dict[str, Any]:
    location: dict[str, Any] = {"logicalLocations": [{"name": wording.clean(report.subject) or "model"}]}
    if path is not None:
        location["physicalLocation"] = {"artifactLocation": {"uri": _address(path)}, "region": {"startLine": 1}}
    change, outcome = wording.prediction(finding)
    known = f"{finding.id}:{_address(path) if path is not None else report.subject}"
    return {
        "ruleId": finding.id,
        "ruleIndex": rule,
        "level": LEVELS[finding.verdict],
        "message": {"text": _unlinked(wording.clean(finding.title)) or RULES[finding.id]},
        "locations": [location],
        "partialFingerprints": {"finding/v1": hashlib.sha256(known.encode("utf-8", "replace")).hexdigest()},
        "properties": {
            "rootCause": finding.id == report.cause,
            "evidence": {wording.clean(name, 60): _plain(value) for name, value in list(finding.evidence.items())[:50]},
            "nextExperiment": f"{change}: {outcome}" if change else None,
        },
    }


def _plain(value: Any) -> Any:
    """Finite numbers as they are, all else as words: a megabyte of a log is of no use here."""
    if isinstance(value, int | float) and abs(value) < 1e300:  # false for NaN
        return value
    return wording.number(value, 500)


def _unlinked(text: str) -> str:
    """Brackets before parentheses are a link, in SARIF's messages as in markdown."""
    return text.replace("](", "] (")


def _address(path: Path) -> str:
    """Relative to the working directory with slashes where it lies under it, else a ``file:`` address."""
    whole = Path(os.path.abspath(path))
    try:
        return quote(os.fsencode(whole.relative_to(Path.cwd()).as_posix()))
    except ValueError:
        return whole.as_uri()
