"""The report as HTML: a card for each finding, the cause open, what follows from it folded.

No script, and no reliance on the style sheet: where a page takes it away, as GitHub does, headings, tables and code are
left in order. Everything that comes from a report goes through ``html.escape``.
"""

from functools import cache
from html import escape

from ..finding import Finding, Report
from . import wording

LARGEST = 60_000
"""Bytes of HTML: a notebook may hold many reports. Longer ones are made again from shorter texts."""

_NAMES = {"fail": "fail", "warn": "warning", "note": "note", "pass": "passed", "not-measurable": "not measurable"}


def as_html(report: Report) -> str:
    """A report for a notebook: under :data:`LARGEST` bytes, readable from 700 pixels of width on, in light and dark."""
    for share in (1.0, 0.4, 0.15, 0.05):
        page = _page(report, share)
        if len(page.encode()) <= LARGEST:
            break
    return page


def _page(report: Report, share: float) -> str:
    cause = report.findings[0] if report.cause else None
    notes = [f for f in report.findings if f.verdict == "note"]
    passes = [f for f in report.findings if f.verdict == "pass"]
    parts = [f"<style>{_style()}</style>", _heading(report, share)]
    if cause is not None:
        parts.append(_cause(report, cause, share))
    elif picture := _pictures(report):
        parts.append(f'<div class="card calm">{picture}</div>')
    if report.consequences:
        parts.append("<h4>Consequences: they may go away with the cause</h4>")
        parts += [_folded(finding, share) for finding in report.consequences]
    if notes:
        parts.append("<h4>Worth knowing</h4>")
        parts += [_folded(finding, share) for finding in notes]
    unmeasured = wording.unmeasured(report)
    if passes or unmeasured:
        parts.append("<h4>Checks without a finding</h4>")
    if passes:
        items = "".join(f"<li><code>{escape(f.id)}</code> {_said(f.title, share)}</li>" for f in passes)
        parts.append(_fold(f"{_badge('pass')} {len(passes)} check{'s' * (len(passes) > 1)} passed", f"<ul>{items}</ul>"))
    if unmeasured:
        items = "".join(
            f"<li>{', '.join(f'<code>{escape(id)}</code>' for id in ids)}: {_said(why, share)}</li>" for why, ids in unmeasured
        )
        count = sum(len(ids) for _, ids in unmeasured)
        parts.append(_fold(f"{_badge('not-measurable')} {count} not measurable here", f"<ul>{items}</ul>"))
    if read := wording.read(report):
        parts.append(f'<p class="tally">Read: {" ".join(_said(sentence, share) for sentence in read)}</p>')
    return f'<div class="occlab-report">{"".join(parts)}</div>'


def _heading(report: Report, share: float) -> str:
    badge = "" if report.cause else _badge(wording.worst(report)) + " "
    return f'<h3>{badge}{_said(report.subject, share)}</h3><p class="tally">{escape(wording.tally(report))}</p>'


def _cause(report: Report, finding: Finding, share: float) -> str:
    name = f"{_badge(finding.verdict)} root cause: <code>{escape(finding.id)}</code>{_kind(finding)}"
    title = f"<h4>{_said(finding.title, share)}</h4>"
    body = _body(finding, share, _pictures(report), cause=True)
    return f'<section class="card {finding.verdict}"><p>{name}</p>{title}{body}</section>'


def _folded(finding: Finding, share: float) -> str:
    summary = f"{_badge(finding.verdict)} <code>{escape(finding.id)}</code>{_kind(finding)} {_said(finding.title, share)}"
    body = _body(finding, share) if share > 0.1 else ""
    if not body:
        return f'<div class="card {finding.verdict}">{summary}</div>'
    unfolded = " open" if finding.verdict == "note" and wording.tables(finding) else ""  # they are what it has to say
    return f'<details class="card {finding.verdict}"{unfolded}><summary>{summary}</summary>{body}</details>'


def _body(finding: Finding, share: float, pictures: str = "", cause: bool = False) -> str:
    """Why, pictures, what to do, what to try, and the numbers."""
    parts = [f"<p>{_said(finding.why, 2 * share)}</p>"] if finding.why else []
    parts.append(pictures)
    numbers = _numbers(finding, share)
    if cause and numbers:  # its title and pictures say the most of it
        numbers = f"<details open><summary>The numbers</summary>{numbers}</details>"
    if finding.fix:
        fix = escape(wording.code(finding.fix, int(2400 * share)))
        parts.append(f"<h5>Fix</h5><pre><code>{fix}</code></pre>")
    change, outcome = wording.prediction(finding)
    if change:
        how = wording.how(finding) if cause else ""
        parts.append(f"<h5>Next experiment</h5><p>{escape(change)}: {escape(outcome)}{how}</p>")
    return "".join([*parts, numbers])


def _numbers(finding: Finding, share: float) -> str:
    most = max(int(wording.MOST_ROWS * share), 3)
    rows = [f"<tr><th>{escape(name)}</th>{_cell(value)}</tr>" for name, value in wording.rows(finding, most)]
    parts = []
    for name, columns, records in wording.tables(finding, most):
        head = "".join(f"<th>{escape(column)}</th>" for column in columns) if any(columns) else ""
        body = "".join(f"<tr>{''.join(map(_cell, cells))}</tr>" for cells in records)
        parts.append(f"<h5>{escape(name)}</h5><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
    numbers = f'<table class="numbers"><tbody>{"".join(rows)}</tbody></table>' if rows else ""
    if parts and numbers and finding.verdict == "note":  # its tables are what it has to say
        numbers = f"<details><summary>The numbers</summary>{numbers}</details>"
    return "".join([*parts, numbers] if finding.verdict == "note" else [numbers, *parts])


def _cell(value: str) -> str:
    whole = ' class="whole"' if len(value) <= 12 else ""  # a number is not broken in two
    return f"<td{whole}>{escape(value)}</td>"


def _pictures(report: Report) -> str:
    from ...viz.diagnosis import histogram_picture, loss_picture

    steps, values, floors = wording.curve(report)
    loss = loss_picture(steps, values, floors)
    histogram = report.curves.get("histogram")
    outputs = histogram_picture(*histogram) if isinstance(histogram, tuple | list) and len(histogram) == 2 else ""
    figures = [f"<figure>{loss}<figcaption>Loss: {escape(wording.course(report))}.</figcaption></figure>"] if loss else []
    if outputs:
        said = "Predicted probabilities, counts on a logarithmic axis."
        figures.append(f'<figure class="outputs">{outputs}<figcaption>{said}</figcaption></figure>')
    return f'<div class="pictures">{"".join(figures)}</div>' if figures else ""


def _fold(summary: str, body: str) -> str:
    return f'<details class="card"><summary>{summary}</summary>{body}</details>'


def _badge(verdict: str) -> str:
    return f'<span class="badge {verdict}">{wording.SYMBOLS[verdict]} {_NAMES[verdict]}</span>'


def _kind(finding: Finding) -> str:
    kind = wording.kind(finding)
    return f' <span class="quiet">({escape(kind)})</span>' if kind else ""


def _said(text: str, share: float) -> str:
    return escape(wording.clean(text, max(int(wording.LONGEST * share), 40)))


@cache
def _style() -> str:
    """Colours of the theme of all figures; in JupyterLab paper, ink and borders are those of the page around."""
    from ...viz import theme

    light = f"--ink:{theme.INK};--quiet:{theme.QUIET};--faint:{theme.FAINT};--paper:#fff;--shade:#f5f7f9;" + (
        f"--line:{theme.BLUE};--near:#b34a00;--fail:#b34a00;--warn:{theme.ORANGE};--note:{theme.BLUE};--pass:#007a59"
    )
    dark = (
        "--ink:#e4e8ec;--quiet:#a3adb8;--faint:#38414a;--paper:#14181c;--shade:#1e242a;"
        f"--line:{theme.SKY};--near:#ff9b57;--fail:#c2570a;--warn:{theme.ORANGE};--note:#1f78b8;--pass:#0f8060"
    )
    return f""".occlab-report{{{light}}}
@media (prefers-color-scheme:dark){{body:not([data-jp-theme-light]):not([data-vscode-theme-kind]) .occlab-report{{{dark}}}}}
body[data-jp-theme-light=false] .occlab-report,body[data-vscode-theme-kind*=dark] .occlab-report{{{dark}}}
{_RULES}"""


_RULES = """
.occlab-report{--i:var(--jp-content-font-color1,var(--ink));--q:var(--jp-content-font-color2,var(--quiet));
--p:var(--jp-layout-color0,var(--paper));--s:var(--jp-layout-color2,var(--shade));--b:var(--jp-border-color2,var(--faint));
color:var(--i);background:var(--p);font:14px/1.5 var(--jp-content-font-family,system-ui,"Segoe UI",Helvetica,Arial,sans-serif);
max-width:1040px;padding:4px 10px 8px;overflow-wrap:anywhere}
.occlab-report *{box-sizing:border-box}
.occlab-report h3{font-size:19px;line-height:1.3;margin:4px 0 0;font-weight:600;color:var(--i)}
.occlab-report h4{font-size:13px;margin:18px 0 6px;font-weight:600;color:var(--q)}
.occlab-report h5{font-size:13px;margin:14px 0 4px;font-weight:600;color:var(--i)}
.occlab-report p{margin:4px 0 8px}
.occlab-report .tally,.occlab-report .quiet,.occlab-report figcaption{color:var(--q)}
.occlab-report .card{display:block;border:1px solid var(--b);border-left:4px solid var(--b);border-radius:4px;
padding:8px 14px;margin:0 0 6px}
.occlab-report section.card{padding:12px 18px 14px}
.occlab-report .card.fail{border-left-color:var(--fail)}.occlab-report .card.warn{border-left-color:var(--warn)}
.occlab-report .card.note{border-left-color:var(--note)}
.occlab-report .calm{--near:var(--q)}
.occlab-report section.card h4{font-size:17px;line-height:1.35;margin:2px 0 8px;color:var(--i)}
.occlab-report summary{cursor:pointer}
.occlab-report details.card[open]>summary{margin-bottom:8px}
.occlab-report .badge{display:inline-block;border-radius:3px;padding:0 7px;font-size:12px;line-height:20px;font-weight:600;
color:#fff;background:#66717d;white-space:nowrap}
.occlab-report .badge.fail{background:var(--fail)}.occlab-report .badge.warn{background:var(--warn);color:#1f2933}
.occlab-report .badge.note{background:var(--note)}.occlab-report .badge.pass{background:var(--pass)}
.occlab-report code{font:12.5px/1.5 var(--jp-code-font-family,ui-monospace,Menlo,Consolas,monospace);background:none;
color:inherit;padding:0}
.occlab-report pre{background:var(--s);border-radius:4px;padding:9px 12px;margin:4px 0 8px;white-space:pre-wrap;color:var(--i)}
.occlab-report table{border-collapse:collapse;margin:4px 0 8px;font-size:13px;border:0;table-layout:auto;max-width:100%}
.occlab-report.occlab-report th,.occlab-report.occlab-report td{text-align:left;
padding:3px 18px 3px 0;border:0;border-bottom:1px solid var(--b);
vertical-align:top;white-space:normal;background:none;max-width:520px;color:var(--i)}
.occlab-report.occlab-report th{font-weight:400;color:var(--q)}
.occlab-report td{font-variant-numeric:tabular-nums}
.occlab-report.occlab-report .whole{white-space:nowrap}
.occlab-report tr,.occlab-report tr:nth-child(even),.occlab-report tr:hover{background:none!important}
.occlab-report ul{margin:4px 0;padding-left:20px}
.occlab-report .pictures{display:flex;flex-wrap:wrap;gap:8px 20px;margin:10px 0}
.occlab-report figure{margin:0;flex:620 1 400px;max-width:620px;min-width:0}
.occlab-report figure.outputs{flex:380 1 245px;max-width:380px}
.occlab-report svg{width:100%;height:auto;display:block;background:none}
.occlab-report figcaption{font-size:12.5px;margin-top:4px}
.occlab-report .line{stroke:var(--line)}.occlab-report .bar,.occlab-report .line-dot{fill:var(--line)}
.occlab-report .rule{stroke:var(--q)}.occlab-report .faint{stroke:var(--b)}.occlab-report line.near{stroke:var(--near)}
.occlab-report .none{fill:var(--near)}
.occlab-report .ink-text{fill:var(--i)}.occlab-report .quiet-text{fill:var(--q)}.occlab-report .near-text{fill:var(--near)}
"""
