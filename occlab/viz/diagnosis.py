"""Pictures of a diagnosis as SVG, drawn from the numbers: they need no script, and follow a notebook's light or dark theme.

Each element carries its colour for a light page, and a class by which a style sheet may give it another.
"""

from html import escape
from typing import Any

import numpy as np

from . import theme
from .curves import stagger

LARGEST = 1e30
"""Numbers beyond it are not drawn: nothing else would be seen beside them."""
MOST_FLOORS = 8
NEAR = 0.02
"""A loss within this share of a floor is drawn as being at it; whether it has stopped there is for the checks to say."""
_LETTER = 6.9  # pixels that a letter of 12 pixels is wide, in the widest of the usual fonts; 1.13 times that in bold


def loss_picture(steps: Any, values: Any, floors: dict[str, float] | None = None) -> str:
    """The loss over the steps, and floors as labelled lines; those at which it settled stand out.

    Shape:
        steps, values: (S,) each; where the steps go back, as after a restart, the line is broken.
        floors: name -> loss; those beyond twice the largest loss are left out, they would flatten the curve.
        returns: an ``svg`` element; "" where no loss is finite.
    """
    x, y = drawable(steps, values)
    if not len(y):
        return ""
    last, reach = settled(y), 2 * np.abs(y).max()
    lines = {name: float(f) for name, f in (floors or {}).items() if np.isfinite(f) and abs(f) <= max(reach, 1e-9)}
    lines = dict(sorted(lines.items(), key=lambda item: abs(item[1] - last))[:MOST_FLOORS])
    at = near(last, lines)
    texts = {name: _short(f"{name} {value:.4g}") for name, value in lines.items()}
    right = 24 + max((_LETTER * len(text) * (1.13 if name in at else 1) for name, text in texts.items()), default=0)
    width, height, left, top, bottom = 620, 264, 44, 12, 224
    low, high = _span([*y, *lines.values()])
    start, end = (float(x.min()), float(x.max())) if x.max() > x.min() else (x[0] - 1, x[0] + 1)

    def across(v: Any) -> Any:
        return left + (v - start) / (end - start) * (width - right - left)

    def down(v: Any) -> Any:
        return bottom - (v - low) / (high - low) * (bottom - top)

    parts = [
        *_grid([(down(t), f"{t + 0.0:.6g}") for t in theme.nice_ticks(low, high, 5)], left, width - right),
        *_axis([(across(t), _whole(t)) for t in theme.nice_ticks(start, end, 6)], bottom, left, width - right, "step"),
    ]
    for name, value in lines.items():
        look = f'class="near" stroke="{theme.VERMILLION}" stroke-width="1.8"' if name in at else _RULE
        parts.append(_line(left, down(value), width - right, down(value), look + ' stroke-dasharray="5 4"'))
    for text, value, up in stagger(list({texts[name]: f for name, f in lines.items()}.items()), low, high, bottom - top):
        middle = down(value) - up
        parts.append(_line(width - right, down(value), width - right + 12, middle, _RULE))
        said = text.split("<br>")
        for i, one in enumerate(said):
            ours = one in [texts[name] for name in at]
            place = middle + 4 + 18 * (i - (len(said) - 1) / 2)
            parts.append(_text(width - right + 16, place, one, "start", "near" if ours else "ink"))
    parts.append(_curve(across(x), down(y), np.diff(x, prepend=x[0]) < 0))
    parts.append(f'<circle class="line-dot" cx="{across(x[-1]):.1f}" cy="{down(y[-1]):.1f}" r="3.5" fill="{theme.BLUE}"/>')
    return _svg(width, height, f"The loss over the steps, from {y[0]:.4g} to {last:.4g}", parts)


def histogram_picture(edges: Any, counts: Any) -> str:
    """How often each probability occurs, on a logarithmic axis; a stretch of at least a fifth in which none lies is marked.

    Shape:
        edges: (N + 1,) rising. counts: (N,), 0 or more.
        returns: an ``svg`` element; "" where there is nothing to draw.
    """
    edges, counts = _floats(edges), _floats(counts)
    valid = len(edges) == len(counts) + 1 and np.isfinite([*edges, *counts]).all() and (np.diff(edges) > 0).all()
    if not (valid and len(counts) and counts.min() >= 0 and 0 < counts.max() < LARGEST):
        return ""
    if len(counts) > 100:  # one bar takes three pixels at least
        every = np.arange(0, len(counts), -(-len(counts) // 100))
        edges, counts = np.append(edges[every], edges[-1]), np.add.reduceat(counts, every)
    width, height, left, right, top, bottom = 380, 264, 44, 14, 12, 224
    low, high = float(edges[0]), float(edges[-1])
    most = np.log10(counts.max()) + 0.7  # the axis starts a little under one, so that one is seen

    def across(v: float) -> float:
        return left + (v - low) / (high - low) * (width - right - left)

    def tall(n: float) -> float:
        return (np.log10(n) + 0.5) / (most + 0.5) * (bottom - top)

    decades = range(0, int(most) + 1, 1 + int(most) // 5)
    parts = _grid([(bottom - tall(10.0**d), _power(d)) for d in decades], left, width - right)
    for start, end, words in _deserts(edges, counts):
        a, b = across(start), across(end)
        parts.append(f'<rect class="none" x="{a:.1f}" y="{top}" width="{b - a:.1f}" height="{bottom - top}" {_SHADE}/>')
        parts.append(_text((a + b) / 2, top + 20, words, "middle", "near"))
    bars = [(across(edges[i]), across(edges[i + 1]), tall(counts[i])) for i in np.flatnonzero(counts)]
    path = "".join(f"M{a:.1f} {bottom}V{bottom - t:.1f}H{max(b - 0.4, a + 0.6):.1f}V{bottom}Z" for a, b, t in bars)
    parts.append(f'<path class="bar" d="{path}" fill="{theme.BLUE}"/>')
    ticks = [(across(t), f"{t + 0.0:.4g}") for t in theme.nice_ticks(low, high, 5)]
    parts += _axis(ticks, bottom, left, width - right, "predicted probability")
    return _svg(width, height, "How often each predicted probability occurs, counts on a logarithmic axis", parts)


def drawable(steps: Any, values: Any) -> tuple[np.ndarray, np.ndarray]:
    """(S,) steps and losses, those that are finite and no larger than :data:`LARGEST`; none where lengths differ."""
    x, y = _floats(steps), _floats(values)
    if len(x) != len(y):
        return np.zeros(0), np.zeros(0)
    good = (np.abs(x) < LARGEST) & (np.abs(y) < LARGEST)  # false for NaN
    return x[good], y[good]


def settled(values: np.ndarray) -> float:
    """Where a loss has come to: the median of its last twentieth, for one step alone may be a batch that was easy."""
    return float(np.median(values[-max(len(values) // 20, 1) :]))


def near(loss: float, floors: dict[str, float]) -> list[str]:
    """Names of the floors within :data:`NEAR` of a loss."""
    return [name for name, floor in floors.items() if abs(loss - floor) <= NEAR * abs(floor)]


def _deserts(edges: np.ndarray, counts: np.ndarray) -> list[tuple[float, float, str]]:
    """Stretches at either end, a fifth of the axis or more, without a single count: (start, end, what to say)."""
    filled = np.flatnonzero(counts)
    first, last = float(edges[filled[0]]), float(edges[filled[-1] + 1])
    ends = ((float(edges[0]), first, f"none below {first:.3g}"), (last, float(edges[-1]), f"none above {last:.3g}"))
    return [(a, b, words) for a, b, words in ends if b - a >= 0.2 * (edges[-1] - edges[0])]


def _curve(x: np.ndarray, y: np.ndarray, breaks: np.ndarray) -> str:
    """A path through pixels; of many points the lowest and highest of each bin are kept, so that no spike is lost."""
    kept = np.arange(len(x))
    if len(x) > 600:
        bins = np.array_split(kept, 250)
        kept = np.unique([i for b in bins for i in (b[0], b[np.argmin(y[b])], b[np.argmax(y[b])])])
        kept = np.append(kept, len(x) - 1)
        breaks = np.diff(np.cumsum(breaks)[kept], prepend=0) > 0
    pens = np.where(breaks | (np.arange(len(kept)) == 0), "M", "L")
    path = "".join(f"{pen}{a:.1f} {b:.1f}" for pen, a, b in zip(pens, x[kept], y[kept], strict=True))
    look = f'fill="none" stroke="{theme.BLUE}" stroke-width="2" stroke-linejoin="round"'
    return f'<path class="line" d="{path}" {look}/>'


_RULE = f'class="rule" stroke="{theme.QUIET}" stroke-width="1"'
_SHADE = f'fill="{theme.VERMILLION}" fill-opacity="0.1"'


def _svg(width: int, height: int, label: str, parts: list[str]) -> str:
    head = f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img" aria-label="{escape(label)}" font-size="12"'
    return f'{head} font-family="Helvetica, Arial, sans-serif">{"".join(parts)}</svg>'


def _line(x1: float, y1: float, x2: float, y2: float, look: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {look}/>'


def _text(x: float, y: float, text: str, anchor: str, kind: str) -> str:
    colour = {"near": theme.VERMILLION, "ink": theme.INK, "quiet": theme.QUIET}[kind]
    weight = ' font-weight="600"' if kind == "near" else ""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="{kind}-text" {place} fill="{colour}"{weight}>{escape(text)}</text>'


def _grid(ticks: list[tuple[float, str]], left: float, right: float) -> list[str]:
    faint = f'class="faint" stroke="{theme.FAINT}"'
    lines = [_line(left, y, right, y, faint) for y, _ in ticks]
    return lines + [_text(left - 7, y + 4, text, "end", "quiet") for y, text in ticks]


def _axis(ticks: list[tuple[float, str]], bottom: float, left: float, right: float, name: str) -> list[str]:
    marks = [_line(x, bottom, x, bottom + 4, _RULE) for x, _ in ticks]
    texts = [_text(x, bottom + 17, text, "middle", "quiet") for x, text in ticks]
    named = _text((left + right) / 2, bottom + 34, name, "middle", "quiet")
    return [_line(left, bottom, right, bottom, _RULE), *marks, *texts, named]


def _span(values: Any) -> tuple[float, float]:
    low, high = float(np.min(values)), float(np.max(values))
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    return low - margin, high + margin


def _short(text: str, most: int = 32) -> str:
    """A floor's label; where it is cut, its number is kept."""
    name, _, value = text.rpartition(" ")
    return text if len(text) <= most else f"{name[: most - len(value) - 2].rstrip()}… {value}"


def _whole(t: float) -> str:
    t += 0.0  # no "-0"
    return f"{t:,.0f}" if abs(t) < 1e7 and t == round(t) else f"{t:.4g}"


def _power(d: int) -> str:
    return f"{10**d:,}" if d < 4 else "10" + "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(c)] for c in str(d))


def _floats(values: Any) -> np.ndarray:
    """(N,) float64; none where they are no list of numbers."""
    try:
        array = theme.as_array(values).astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        return np.zeros(0)
    return array if array.ndim == 1 else np.zeros(0)
