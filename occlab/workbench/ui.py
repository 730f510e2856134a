"""Small widgets in one look: buttons, notes, cards, tables. What is said is escaped here: no text of a file becomes a tag."""

import html
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as widgets

# JupyterLab's own variables, which Voila has too, so that light and dark need no rules of their own.
STYLE = """
.occlab { --gap: 8px; color: var(--jp-ui-font-color1); }
.occlab .widget-label, .occlab .widget-html-content { color: var(--jp-ui-font-color1); }
.occlab .widget-html-content { line-height: 1.4; }
.occlab .lm-TabBar-tabLabel { color: var(--jp-ui-font-color1); }
.occlab .widget-box { overflow: visible; }
.occlab select { background-color: var(--jp-layout-color1); color: var(--jp-ui-font-color1); }
.occlab-dark select { color-scheme: dark; }
.occlab .widget-html-content { white-space: normal; }
.occlab-heading { font-weight: 600; font-size: 14px; margin: 2px 0; }
.occlab-quiet { color: var(--jp-ui-font-color2); }
.occlab-card { border: 1px solid var(--jp-border-color2); border-left-width: 4px; border-radius: 3px; padding: 6px 10px;
  margin: 2px 0; background: var(--jp-layout-color1); overflow-wrap: anywhere; }
.occlab-card.bad { border-left-color: #D55E00; } .occlab-card.warn { border-left-color: #E69F00; }
.occlab-card.good { border-left-color: #009E73; } .occlab-card.plain { border-left-color: #0072B2; }
.occlab-card pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 11px; background: none; color: inherit; }
.occlab table { border-collapse: collapse; font-size: 13px; margin: 2px 0; color: var(--jp-ui-font-color1); }
.occlab th, .occlab td { padding: 2px 10px 2px 0; text-align: left; border-bottom: 1px solid var(--jp-border-color2); }
.occlab td.number, .occlab th.number { text-align: right; font-variant-numeric: tabular-nums; }
.occlab a { color: var(--jp-content-link-color); }
.occlab button:focus-visible, .occlab input:focus-visible, .occlab select:focus-visible, .occlab .noUi-handle:focus-visible,
.occlab .lm-TabBar-tab:focus-visible { outline: 2px solid #56B4E9; outline-offset: 1px; }
"""


def style_sheet() -> widgets.HTML:
    """The rules above, for one page; the application shows it once."""
    return widgets.HTML(f"<style>{STYLE}</style>", layout={"height": "0px", "margin": "0"})


def button(label: str, tooltip: str, press: Callable[[], Any], *, main: bool = False, width: str = "auto") -> widgets.Button:
    """A button that calls ``press()``. Symbols go into the label as text: an icon font would be fetched from another server."""
    made = widgets.Button(
        description=label, tooltip=tooltip, button_style="primary" if main else "", layout={"width": width, "min_width": "64px"}
    )
    made.on_click(lambda _: press())
    return made


def heading(text: str) -> widgets.HTML:
    return widgets.HTML(f'<div class="occlab-heading" role="heading" aria-level="3">{html.escape(text)}</div>')


def note(text: str = "", *, quiet: bool = False) -> widgets.HTML:
    """A line of text, to be changed with :func:`say`."""
    made = widgets.HTML(layout={"min_height": "20px"})
    if quiet:
        made.add_class("occlab-quiet")
    say(made, text)
    return made


def say(note: widgets.HTML, text: str) -> None:
    """Let a note say this, whatever characters are in it."""
    put(note, html.escape(text))


def put(place: widgets.HTML, text: str) -> None:
    """Let it show this HTML; what it shows already is not sent again."""
    if place.value != text:
        place.value = text


def duration(seconds: float) -> str:
    """A length of time in words, to two digits or so."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def card(title: str, body: str = "", kind: str = "plain") -> str:
    """HTML of a card: a title and one sentence, both escaped.

    Args:
        kind: plain, good, warn or bad: the colour of its edge.
    """
    return f'<div class="occlab-card {kind}"><b>{html.escape(title)}</b> {html.escape(body)}</div>'


def error_card(sentence: str, traceback: str = "") -> str:
    """HTML of a card that says what failed, with the traceback folded away."""
    folded = f"<details><summary>details</summary><pre>{html.escape(traceback)}</pre></details>" if traceback else ""
    return f'<div class="occlab-card bad" role="alert">{html.escape(sentence)}{folded}</div>'


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], *, caption: str = "") -> str:
    """HTML of a table, every cell escaped; numbers stand at the right, None is empty."""

    def cell(value: Any) -> str:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        text = "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
        return f"<td{' class=number' if number else ''}>{html.escape(text)}</td>"

    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in header)
    body = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    said = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    return f"<table>{said}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def discard(widget: widgets.Widget) -> None:
    """Close a widget that was taken out, with its layout and style: they are widgets too, and hold its elements on the page."""
    for name in ("style", "layout"):
        if widget.has_trait(name):
            getattr(widget, name).close()
    widget.close()


def row(*children: Any, **layout: Any) -> widgets.HBox:
    return widgets.HBox(children, layout={"align_items": "center", "flex_flow": "row wrap", "grid_gap": "6px"} | layout)


def column(*children: Any, **layout: Any) -> widgets.VBox:
    return widgets.VBox(children, layout={"grid_gap": "4px", "overflow": "visible"} | layout)
