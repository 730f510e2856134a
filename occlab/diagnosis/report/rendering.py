"""The report in its forms: text for a terminal, cards for a notebook, SARIF for a build server.

The text is laid out by rich where it is installed, and without it says the same more plainly.
"""

import io
import shutil
import sys
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from ..finding import Finding, Report
from . import wording
from .cards import as_html
from .sarif import as_sarif

__all__ = ["as_html", "as_sarif", "as_text", "print_report"]

COLOURS = {"fail": "red", "warn": "yellow", "note": "blue", "pass": "green", "not-measurable": "bright_black"}
"""Of the terminal's own sixteen, which its user has chosen to be readable."""
BARS = "▁▂▃▄▅▆▇█"


def as_text(report: Report, width: int | None = None) -> str:
    """Plain text, no colours; as wide as the terminal, from 80 to 120 columns."""
    width = width or _width()
    try:
        import rich  # noqa: F401
    except ImportError:
        return _plain(report, width)
    return _through_rich(report, width)


def print_report(report: Report) -> None:
    """Print to standard output, in colour where that is a terminal."""
    encoding = sys.stdout.encoding or "ascii"
    try:
        import rich  # noqa: F401

        text = _through_rich(report, _width(), colour=sys.stdout.isatty())
    except ImportError:
        text = _plain(report, _width())
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding) + "\n")


def sparkline(values: Any, width: int = 32) -> str:
    """The values as bars of text, the mean of each column; the lowest bar is the lowest value."""
    values = list(values)
    columns = min(width, len(values))
    cuts = [round(i * len(values) / columns) for i in range(columns + 1)] if columns else []
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(cuts)]
    low, high = (min(means), max(means)) if means else (0.0, 0.0)
    return "".join(BARS[int((v - low) / (high - low) * 7.999) if high > low else 0] for v in means)


def _width() -> int:
    return min(max(shutil.get_terminal_size().columns, 80), 120)


def _tail(report: Report) -> Iterator[tuple[str, str]]:
    """What is said in a line at the end: (label, text)."""
    passed = [f.id for f in report.findings if f.verdict == "pass"]
    if passed:
        yield "passed", ", ".join(passed)
    if unmeasured := wording.unmeasured(report):
        yield "not measurable", "; ".join(f"{', '.join(ids)} ({why})" for why, ids in unmeasured)
    if read := wording.read(report):
        yield "read", " ".join(read)


def _groups(report: Report) -> Iterator[tuple[str, list[Finding]]]:
    """The findings that get a line each, under their heading."""
    if report.consequences:
        yield "Consequences: they may go away with the cause", list(report.consequences)
    if notes := [f for f in report.findings if f.verdict == "note"]:
        yield "Worth knowing", notes


def _sections(report: Report, finding: Finding) -> Iterator[tuple[str, str]]:
    """What is said of the cause under its numbers: (label, text)."""
    if said := wording.course(report):
        yield "Loss", f"{sparkline(wording.curve(report)[1])}  {said}"
    if finding.why:
        yield "Why", wording.clean(finding.why, 2 * wording.LONGEST)
    if finding.fix:
        yield "Fix", wording.code(finding.fix)
    change, outcome = wording.prediction(finding)
    if change:
        yield "Next", f"{change}: {outcome}{wording.how(finding)}"


# --- through rich -------------------------------------------------------------------------------------------------------


def _through_rich(report: Report, width: int, colour: bool = False) -> str:
    """Texts go in as ``Text``, never as markup: brackets in them mean nothing."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    file = io.StringIO()
    system: Any = "standard" if colour else None
    console = Console(
        file=file, width=width, color_system=system, force_terminal=colour, force_jupyter=False, legacy_windows=False
    )
    worst = wording.worst(report)
    head = Text(f"{wording.SYMBOLS[worst]} " if report.cause is None else "", COLOURS[worst])
    head.append(wording.clean(report.subject, 200), "bold default").append(f": {wording.tally(report)}", "default")
    console.print(head)
    if report.cause is not None:
        console.print(_panel(report, report.findings[0]))
    elif said := wording.course(report):
        console.print(Text(f"loss {sparkline(wording.curve(report)[1])}  {said}"))
    for heading, findings in _groups(report):
        console.print(Text(f"\n{heading}", "bold"))
        grid = _grid(Table, 3)
        for f in findings:
            verdict = Text(f"{wording.SYMBOLS[f.verdict]} {f.verdict}", COLOURS[f.verdict])
            grid.add_row(verdict, Text(f.id, "bold"), Text(wording.clean(f.title)))
        console.print(grid)
        for table in [table for f in findings if f.verdict == "note" for table in _tables(f)]:
            console.print(Text(), Padding(table, (0, 0, 0, 2)), sep="\n")
    for label, text in _tail(report):
        console.print(Text(f"\n{label}: ", "dim").append(text, "default"))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def _panel(report: Report, cause: Finding) -> Any:
    """The root cause, framed."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    colour = COLOURS[cause.verdict]
    grid = _grid(Table, 2)
    for name, value in wording.rows(cause):
        grid.add_row(Text(wording.clean(name, 36), "dim"), Text(value))
    parts: list[Any] = [Text(wording.clean(cause.title), "bold"), Text(), grid]
    for table in _tables(cause):
        parts += [Text(), table]
    said = _grid(Table, 2)
    for label, text in _sections(report, cause):
        said.add_row(Text(label, "bold"), Text(text, "cyan" if label == "Fix" else ""))
    title = Text(wording.headline(cause), f"bold {colour}")
    return Panel(Group(*parts, Text(), said), title=title, title_align="left", border_style=colour)


def _tables(finding: Finding) -> Iterator[Any]:
    """The lists in its evidence, each under its name."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    for name, columns, records in wording.tables(finding):
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=any(columns))
        for column in columns:
            table.add_column(Text(column, "dim"), overflow="fold")
        for cells in records:
            table.add_row(*map(Text, cells))
        yield Group(Text(name, "bold"), table)


def _grid(table: Any, columns: int) -> Any:
    """A table without lines; all columns but the last as wide as their text."""
    grid = table.grid(padding=(0, 2, 0, 0))
    for i in range(columns):
        grid.add_column(no_wrap=i < columns - 1, overflow="fold")
    return grid


# --- without rich -------------------------------------------------------------------------------------------------------


def _plain(report: Report, width: int) -> str:
    lines = _wrap(f"{wording.clean(report.subject, 200)}: {wording.tally(report)}", width)
    if report.cause is not None:
        cause = report.findings[0]
        lines += ["", wording.headline(cause)]
        lines += _wrap(wording.clean(cause.title), width, "  ")
        for name, value in wording.rows(cause):
            lines += _wrap(f"{name}: {value}", width, "    ")
        lines += _plain_tables(cause, width)
        for label, text in _sections(report, cause):
            lines += ["  Fix:", textwrap.indent(text, "    ")] if label == "Fix" else _wrap(f"{label}: {text}", width, "  ")
    elif said := wording.course(report):
        lines += _wrap(f"loss {sparkline(wording.curve(report)[1])}  {said}", width)
    for heading, findings in _groups(report):
        lines += ["", heading]
        for f in findings:
            lines += _wrap(f"{wording.SYMBOLS[f.verdict]} {f.verdict}  {f.id}  {wording.clean(f.title)}", width, "  ")
            lines += _plain_tables(f, width) if f.verdict == "note" else []
    for label, text in _tail(report):
        lines += ["", *_wrap(f"{label}: {text}", width)]
    return "\n".join(lines)


def _plain_tables(finding: Finding, width: int) -> list[str]:
    lines = []
    for name, columns, records in wording.tables(finding):
        lines.append(f"  {name}")
        for cells in records:
            said = "; ".join(f"{column}: {cell}" if column else cell for column, cell in zip(columns, cells, strict=True))
            lines += _wrap(said, width, "    ")
    return lines


def _wrap(text: str, width: int, indent: str = "") -> list[str]:
    return textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=f"{indent}  ") or [""]
