"""Words and numbers of a report, made fit to be shown: what all its forms share.

Names and sentences may come from somebody's log. Control characters, terminal escapes and characters that turn the
direction of writing are taken out here; what a form itself gives a meaning to, it escapes.
"""

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from ..finding import Finding, Report, Verdict

SYMBOLS: dict[Verdict, str] = {"fail": "✗", "warn": "▲", "note": "●", "pass": "✓", "not-measurable": "○"}
"""Beside the colours, for those who do not see them. None is an emoji, which some terminals draw two columns wide."""

LONGEST = 320
"""Characters of a sentence that are shown."""
MOST_ROWS = 10
"""Numbers of one finding that are shown beside it; the rest stand in the JSON form."""

_GRAVITY = ("fail", "warn", "note", "pass", "not-measurable")
_ESCAPES = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.")


def clean(text: Any, most: int = LONGEST) -> str:
    """One line of printable characters, at most ``most`` of them, an ellipsis where it was cut."""
    text = _ESCAPES.sub("", str(text)[: 8 * most + 100])  # a megabyte is cut before it is looked at
    text = " ".join("".join(c if c.isprintable() else " " if c.isspace() else "" for c in text).split())
    return text if len(text) <= most else text[: max(most - 1, 0)].rstrip() + "…"


def code(text: Any, most: int = 2400, lines: int = 40) -> str:
    """Printable lines, indentation kept."""
    text = _ESCAPES.sub("", str(text)[: 4 * most]).expandtabs(4)
    rows = ["".join(c for c in row if c.isprintable()).rstrip() for row in text.splitlines()[: lines + 1]]
    short = textwrap.dedent("\n".join(rows[:lines])).strip("\n")
    cut = len(rows) > lines or len(short) > most
    return short[:most] + ("\n…" if cut else "")


def number(value: Any, most: int = 120, depth: int = 2) -> str:
    """A measured value as one reads it: four digits, thousands apart, lists and mappings of a few."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < 10**15 else f"about 10^{round((value.bit_length() - 1) * math.log10(2))}"
    if isinstance(value, float):
        return "not a number" if math.isnan(value) else f"{value:.4g}".replace("inf", "infinite")
    if isinstance(value, Mapping | Sequence) and not isinstance(value, str | bytes) and depth == 0:
        return "…"
    if isinstance(value, Mapping):
        items = [f"{words(k, 40)} {number(v, 40, depth - 1)}" for k, v in list(value.items())[:6]]
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        items = [number(v, 40, depth - 1) for v in value[:6]]
    else:
        return clean(value, most)
    more = [f"… ({len(value)} in all)"] if len(value) > 6 else []
    return clean(", ".join(items + more), most)


def words(name: Any, most: int = 60) -> str:
    """A name from code as words: ``share_zero`` reads "share zero"."""
    return "cut-off" if name == "cutoff" else clean(str(name)[: 8 * most].replace("_", " "), most)


def rows(finding: Finding, most: int = MOST_ROWS) -> list[tuple[str, str]]:
    """The finding's numbers, (name, value): the cut-off and its source last. Tables are left to :func:`tables`."""
    last = [name for name in ("cutoff", "source") if name in finding.evidence]
    shown = [n for n in finding.evidence if n not in (*last, "kind") and not _is_table(finding.evidence[n])]
    more = [(f"and {len(shown) - most} more", "in report.to_json()")] if len(shown) > most else []
    first = [(words(name), number(finding.evidence[name])) for name in shown[:most]]
    return first + more + [(words(name), number(finding.evidence[name], LONGEST)) for name in last]


def tables(finding: Finding, most: int = MOST_ROWS) -> list[tuple[str, list[str], list[list[str]]]]:
    """Lists of like records in the evidence, such as the readings of a plateau, and lists of sentences, such as what would
    decide between them: (name, columns, rows); a list of sentences has one column, without a name."""
    found = []
    for name, records in list(finding.evidence.items())[:200]:
        if not _is_table(records):
            continue
        shown = f"{words(name)} ({most} of {len(records)})" if len(records) > most else words(name)
        if isinstance(records[0], str):
            found.append((shown, [""], [[clean(sentence, 160)] for sentence in records[:most]]))
        else:
            columns = list(records[0])[:5]
            cells = [[number(record.get(column, ""), 100) for column in columns] for record in records[:most]]
            found.append((shown, [words(column) for column in columns], cells))
    return found[:3]


def kind(finding: Finding) -> str:
    """Which sort of it, in words to put behind the id; empty where there is one only."""
    return clean(finding.evidence.get("kind") or "", 60)


def headline(finding: Finding) -> str:
    """Verdict, id and kind of the root cause."""
    which = f" ({kind(finding)})" if kind(finding) else ""
    return f"{SYMBOLS[finding.verdict]} {finding.verdict.upper()}  root cause: {finding.id}{which}"


def how(finding: Finding) -> str:
    """How to run its next experiment; empty where there is only a log to go by."""
    experiment = finding.next_experiment
    return "" if experiment is None or experiment.run is None else " report.try_next() measures it on copies."


SEEN = 4
"""Checks that could not be made, for each that passed, from which on a pass is no clean bill."""


def worst(report: Report) -> Verdict:
    """The verdict that stands over the whole report: a note, or nothing measured, is no clean bill."""
    heaviest = min((f.verdict for f in report.findings), key=_GRAVITY.index, default="not-measurable")
    passed, blind = (sum(f.verdict == verdict for f in report.findings) for verdict in ("pass", "not-measurable"))
    return "not-measurable" if heaviest == "pass" and SEEN * passed < blind else heaviest


def tally(report: Report) -> str:
    """How many findings of each sort, in a line."""
    count = {verdict: sum(f.verdict == verdict for f in report.findings) for verdict in SYMBOLS}
    rest = len(report.consequences)
    parts = ["one root cause" if report.cause else "no alarm"]
    parts += [f"{rest} consequence{'s' * (rest > 1)}"] if rest else []
    parts += [f"{count['note']} note{'s' * (count['note'] > 1)}"] if count["note"] else []
    parts += [f"{count['pass']} passed"] if count["pass"] else []
    parts += [f"{count['not-measurable']} not measurable"] if count["not-measurable"] else []
    return ", ".join(parts)


def unmeasured(report: Report) -> list[tuple[str, list[str]]]:
    """What could not be measured, by reason: (reason, ids)."""
    reasons: dict[str, list[str]] = {}
    for finding in report.findings:
        if finding.verdict == "not-measurable":
            reasons.setdefault(clean(finding.title, 160).rstrip("."), []).append(finding.id)
    return list(reasons.items())


def read(report: Report) -> list[str]:
    """How a log was read, sentence by sentence; empty for a model."""
    said = report.curves.get("read", ())
    return [clean(sentence) for sentence in said[:MOST_ROWS]] if isinstance(said, list | tuple) else []


def prediction(finding: Finding) -> tuple[str, str]:
    """The next experiment, as what to do and what should come of it; two empty strings where there is none."""
    experiment = finding.next_experiment
    if experiment is None:
        return "", ""
    low, high = number(experiment.low), number(experiment.high)
    return clean(experiment.change), clean(f"{clean(experiment.quantity)} should come out between {low} and {high}.")


def curve(report: Report) -> tuple[Any, Any, dict[str, float]]:
    """Steps and losses that can be drawn, two arrays of one length, maybe 0; and the floors, the nearest to its end first."""
    from ...viz.diagnosis import drawable, settled

    loss, floors = report.curves.get("loss"), report.curves.get("floors")
    steps, values = drawable(*loss) if isinstance(loss, tuple | list) and len(loss) == 2 else drawable([], [])
    floors = floors if isinstance(floors, Mapping) else {}
    known = {clean(name, 60): float(v) for name, v in floors.items() if isinstance(v, int | float) and abs(v) < 1e30}
    end = settled(values) if len(values) else 0.0
    return steps, values, dict(sorted(known.items(), key=lambda item: abs(item[1] - end)))


def course(report: Report) -> str:
    """The loss in words: from where to where, in how many steps, and the floor at which it ended, or the nearest three."""
    from ...viz.diagnosis import near, settled

    steps, values, floors = curve(report)
    if not len(values):
        return ""
    last, count = (
        settled(values),
        int(steps.max()) + int(steps.min() < 1),
    )  # a log may hold one step in fifty; some count from 0
    said = f"{values[0]:.4g} → {last:.4g} over {count:,} step{'s' * (count != 1)}"
    if at := near(last, floors):
        others = f" and {len(at) - 1} more" if len(at) > 1 else ""
        return f"{said}, at {at[0]} {floors[at[0]]:.4g} ({_apart(last, floors[at[0]])}){others}"
    rungs = ", ".join(f"{name} {floor:.4g}" for name, floor in list(floors.items())[:3])
    return f"{said}; floors: {rungs}" if rungs else said


def _apart(loss: float, floor: float) -> str:
    return f"{round((loss / floor - 1) * 100, 1) + 0.0:+.1f} %" if floor else "0"


def _is_table(value: Any) -> bool:
    if not isinstance(value, list | tuple) or not value:
        return False
    sentences = all(isinstance(v, str) for v in value) and any(len(v) > 24 for v in value)
    return sentences or all(isinstance(v, Mapping) and v for v in value)
