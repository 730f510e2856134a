"""Losses of the same arms on several heads: a panel a head, one axis of losses for all."""

import textwrap
from typing import Any

import numpy as np

from ..errors import OcclabError
from . import theme
from .curves import _RULE, _lines, _range, stagger

_PAGE = 760  # pixels that a figure is wide in a picture of a notebook: what the columns of labels are laid out for
_LETTER = 6.3  # pixels
_WRAP = 21  # letters in a line of a label
_HEIGHT, _TOP, _BELOW = 500, 104, 84
_DIRECT = 4  # more arms than these are told apart by a legend


def heads_figure(
    curves: dict[str, dict[str, Any]],
    floors: dict[str, dict[str, float]] | None = None,
    *,
    title: str | None = None,
    loss_name: str = "loss",
) -> Any:
    """Losses over the steps, one panel a head, side by side on one axis of losses, with the floors of each head.

    An arm has the same colour and dash in every panel. Up to four arms are labelled where they end, with their last
    loss; more have a legend.

    Shape:
        curves: head -> arm -> a curve as in :func:`occlab.viz.loss_figure`: a list of (step, loss), or a tuple
            (steps, losses) with losses (S,) or (seeds, S).
        floors: head -> name -> loss; a head may have none.

    Raises:
        OcclabError: no head, floors of a head that has no curves, a floor that is not a finite number, or a curve of
            another form.

    >>> heads_figure({"rectified": {"as it stood": [(1, 1.35), (2, 1.19)]}, "logits": {"as it stood": [(1, 1.2), (2, 1.1)]}},
    ...     {"rectified": {"p = 1/2": 1.193}})  # doctest: +SKIP
    """
    try:
        floors = {head: {name: float(v) for name, v in of_head.items()} for head, of_head in (floors or {}).items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise OcclabError(f"heads_figure expects floors as head -> name -> number, got {floors!r}") from error
    if not curves or not all(isinstance(arms, dict) for arms in curves.values()):
        raise OcclabError("heads_figure expects head -> arm -> curve, with at least one head")
    if not floors.keys() <= curves.keys() or not np.isfinite([v for f in floors.values() for v in f.values()]).all():
        raise OcclabError(f"heads_figure expects finite floors of {', '.join(map(repr, curves))}, got {floors}")
    arms = list(dict.fromkeys(arm for of_head in curves.values() for arm in of_head))
    drawn = {head: _lines({arm: of_head.get(arm, []) for arm in arms}, "heads_figure") for head, of_head in curves.items()}
    subtitle = next((said for *_, said in drawn.values() if said), "")
    values = [v for _, extremes, _ in drawn.values() for v in extremes] + [v for f in floors.values() for v in f.values()]
    low, high = _range(values)
    direct = len(arms) <= _DIRECT
    labels = {head: _labels(drawn[head][0], floors.get(head, {}), direct) for head in curves}
    columns = [_column(labels[head]) for head in curves]
    room = _PAGE - theme.MARGIN["l"] - columns[-1]
    wide = (room - sum(columns[:-1])) / len(curves) / room  # of one panel, as a share of what lies between the margins
    figure = theme.figure(
        [],
        title=title or "Loss by output head",
        subtitle=subtitle,
        height=_HEIGHT + 25 * (0 if direct else -(-len(arms) // 3) - 1),
        margin={"l": theme.MARGIN["l"], "r": columns[-1], "t": _TOP, "b": _BELOW if not direct else theme.MARGIN["b"]},
        showlegend=not direct,
    )
    left, named = 0.0, set()
    for i, (head, column) in enumerate(zip(curves, columns, strict=True)):
        number = str(i + 1) if i else ""
        for trace in drawn[head][0]:
            if trace.showlegend is None and trace.legendgroup in named:
                trace.showlegend = False
            elif trace.showlegend is None:
                named.add(trace.legendgroup)
            figure.add_trace(trace.update(xaxis=f"x{number}", yaxis=f"y{number}"))
        span = [left, min(left + wide, 1.0)]
        figure.layout[f"xaxis{number}"] = {
            "domain": span,
            "anchor": f"y{number}",
            "title": {"text": "step"},
            "rangemode": "tozero",
            "nticks": 5,
        }
        figure.layout[f"yaxis{number}"] = {"anchor": f"x{number}", "range": [low, high], "matches": "y" if i else None}
        if i == 0:
            figure.layout.yaxis.title.text = loss_name
        else:
            figure.layout[f"yaxis{number}"].showticklabels = False
        for value in floors.get(head, {}).values():
            here = {"xref": f"x{number} domain", "yref": f"y{number}", "layer": "below"}
            figure.add_shape(type="line", x0=0, x1=1, y0=value, y1=value, line=_RULE, **here)
        look = {"showarrow": False, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom"}
        figure.add_annotation(x=left, y=1, text=f"<b>{head}</b>", font={"size": 14.5}, yshift=2, **look)
        _write(figure, labels[head], number, low, high, _TOP + (_BELOW if not direct else theme.MARGIN["b"]))
        left += wide + column / room
    return figure if values else theme.say(figure, "no steps yet")


def _labels(traces: list[Any], floors: dict[str, float], direct: bool) -> list[tuple[str, float]]:
    """(text, value) of the floors, and of the curves' ends where they are labelled directly."""
    labels = [(_wrap(name, f"{value:.4g}"), value) for name, value in floors.items()]
    for trace in traces if direct else ():
        y = np.asarray(trace.y, dtype=float)
        if trace.showlegend is None and np.isfinite(y).any():  # not the edges of a band
            end = float(y[np.isfinite(y)][-1])
            # The colour is in a mark, not in the letters: orange and sky are too light to read.
            mark = f'<span style="color:{trace.line.color}"><b>━</b></span> '
            labels.append((mark + _wrap(trace.legendgroup, f"{end:.3f}"), end))
    return labels


def _wrap(name: str, number: str) -> str:
    """Lines of about :data:`_WRAP` letters; the number and a relation (">= 1/2") stay on the line of the word before."""
    space = "\N{NO-BREAK SPACE}"
    stuck = name.replace(" >= ", f"{space}>={space}") + space + number
    return "<br>".join(textwrap.wrap(stuck, _WRAP, break_long_words=False, break_on_hyphens=False))


def _column(labels: list[tuple[str, float]]) -> float:
    """Pixels that the labels to the right of a panel take."""
    lines = [line.rpartition("</span>") for text, _ in labels for line in text.split("<br>")]
    return 30 + _LETTER * max((len(line) + 3 * bool(mark) for _, mark, line in lines), default=0)


def _write(figure: Any, labels: list[tuple[str, float]], number: str, low: float, high: float, around: float) -> None:
    for text, value, up in stagger(labels, low, high, int(_HEIGHT - around)):
        look = {"font": {"size": 12}, "align": "left", "xanchor": "left", "standoff": 0}
        leader = {"ax": 14, "ay": -up, "arrowhead": 0, "arrowwidth": 1, "arrowcolor": theme.QUIET}
        figure.add_annotation(x=1, xref=f"x{number} domain", y=value, yref=f"y{number}", text=text, **look, **leader)
