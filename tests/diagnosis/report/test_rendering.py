"""The report's text and cards: what stands in them, that they fit, and that nothing in a report can break out of them."""

import math
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from occlab.diagnosis.finding import CAUSES, VERDICTS, Experiment, Finding, Report, ranked
from occlab.diagnosis.report import rendering, wording
from occlab.viz.diagnosis import histogram_picture, loss_picture

EVIL = '<script>alert("x")</script>[bold]\x1b[31mred\x1b]0;title\x07[/] \u202e & \ud800 </pre></div><b onmouseover=alert(1)>'


def rectified():
    """The network whose head ends in a ReLU, as the doctor sees it."""
    steps = np.arange(300)
    p = np.concatenate([np.full(9000, 0.5), np.linspace(0.5, 0.9, 1000)])
    counts, edges = np.histogram(p, np.linspace(0, 1, 51))
    curves = {
        "loss": (steps, 1.193 + 0.155 * np.exp(-steps / 40)),
        "floors": {"p = 1/2 everywhere": 1.193, "best constant": 0.536},
        "histogram": (edges, counts),
    }
    evidence = {"kind": "relu-before-sigmoid", "lowest_after_push": 0.5, "cutoff": 0.05, "source": "24 healthy set-ups"}
    experiment = Experiment("Drop the ReLU", "loss after 50 steps", 0.92, 1.08, lambda: (1.2, 1.0))
    fix = "head = model.head[:-1]\nif True:\n    model.head = head"
    readings = [{"reading": "p = 1/2", "loss": 1.193}]
    findings = [
        Finding("low-skill", "warn", "Skill is -1.22."),
        Finding("dead-head", "fail", "72 % of the gradients are zero.", {"share_zero": 0.7213}, "They stay there.", "x = 1"),
        Finding("bounded-output", "fail", "No probability goes under 0.5.", evidence, "Empty costs ln 2.", fix, experiment),
        Finding("plateau-at-floor", "fail", "The loss settled at 1.193.", {"readings": readings}),
        Finding("output-prior", "warn", "The first p is 0.58."),
        Finding("clipping", "note", "94 % of the norms are clipped."),
        Finding("class-map", "pass", "Classes fit."),
        Finding("schedule", "not-measurable", "No scheduler was given."),
        Finding("eval-gap", "not-measurable", "No scheduler was given."),
    ]
    return ranked(findings, "OccupancyUNet", curves)


def healthy():
    return ranked([Finding(id, "pass", "Nothing.") for id in CAUSES], "Net", {"loss": ([0, 1, 2], [1.0, 0.5, 0.2])})


def hostile():
    """Every text a trap, and a megabyte of them."""
    long = EVIL + "A" * 1_000_000
    evidence = {f"{EVIL}{i}": long for i in range(200)} | {"kind": long, "cutoff": long, EVIL: [{long: long}] * 50}
    experiment = Experiment(long, long, math.nan, math.inf)
    findings = [Finding(id, VERDICTS[i % 5], long, evidence, long, long, experiment) for i, id in enumerate(CAUSES)]
    curves = {"loss": ([0, 1], [2, 1]), "floors": {long: 1.0}, "histogram": ([0, 0.5, 1], [1, 0])}
    return ranked(findings, long, curves)


class Tags(HTMLParser):
    """Checks that tags close in order, and collects their names and attributes, the texts and the code."""

    VOID = ("line", "circle", "rect", "path")

    def __init__(self, page):
        super().__init__()
        self.open, self.names, self.attributes, self.text, self.code = [], set(), set(), "", ""
        self.feed(page)
        self.close()
        assert not self.open

    def handle_startendtag(self, tag, attributes):
        assert tag in self.VOID
        self.note(tag, attributes)

    def handle_starttag(self, tag, attributes):
        self.note(tag, attributes)
        self.open.append(tag)

    def note(self, tag, attributes):
        self.names.add(tag)
        self.attributes |= {name for name, _ in attributes}

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data
        if "pre" in self.open:
            self.code += data


ALLOWED = {"div", "style", "section", "details", "summary", "span", "h3", "h4", "h5", "p", "ul", "li", "code", "pre"}
ALLOWED |= {"table", "thead", "tbody", "tr", "th", "td", "figure", "figcaption"}
ALLOWED |= {"svg", "text", "line", "circle", "rect", "path"}


def parsed(report):
    tags = Tags(rendering.as_html(report))
    assert tags.names <= ALLOWED
    assert not [name for name in tags.attributes if name.startswith("on") or name in ("style", "href", "src", "id")]
    return tags


# --- what stands in them ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("with_rich", [True, False])
def test_the_text_says_everything_cause_first_and_fits_the_terminal(width, with_rich, monkeypatch):
    if not with_rich:
        monkeypatch.setitem(sys.modules, "rich", None)
    text = rendering.as_text(rectified(), width)
    assert max(map(len, text.splitlines())) <= width
    assert ("╭" in text) == with_rich
    order = ["FAIL", "bounded-output (relu-before-sigmoid)", "No probability goes under 0.5.", "lowest after push", "0.5"]
    order += ["cut-off", "0.05", "1.348 → 1.193 over 300 steps, at p = 1/2 everywhere 1.193", "ln 2", "model.head[:-1]"]
    order += ["Drop the ReLU", "between 0.92 and 1.08", "try_next", "Consequences", "dead-head", "plateau-at-floor"]
    order += ["low-skill", "clipping", "passed: class-map", "not measurable: schedule, eval-gap (No scheduler was given)"]
    flat = " ".join(text.replace("│", " ").split())
    place = 0
    for words in order:
        place = flat.find(words, place)
        assert place >= 0, f"{words!r} is missing, or out of order"
    assert "    model.head = head" in text  # code keeps its indentation
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)


def test_the_cards_say_the_same_and_draw_the_floor_and_the_wall():
    tags = parsed(rectified())
    for words in ("✗ fail", "bounded-output", "(relu-before-sigmoid)", "lowest after push", "0.05", "between 0.92 and 1.08",
                  "p = 1/2 everywhere 1.193", "best constant 0.536", "none below 0.5", "94 % of the norms", "▲ warning",
                  "No scheduler was given", "72 % of the gradients are zero."):  # fmt: skip
        assert words in tags.text
    assert "if True:\n    model.head = head" in tags.code
    assert len(rendering.as_html(rectified())) < 30_000


def test_a_healthy_report_shows_its_curve_and_raises_no_alarm():
    page, text = rendering.as_html(healthy()), rendering.as_text(healthy(), 80)
    assert "no alarm" in page
    assert "<svg" in page
    assert "✗" not in page + text
    assert text.startswith("✓ Net: no alarm, 32 passed")


def test_a_note_shows_the_readings_that_it_lists_and_what_would_decide():
    readings = [{"reading": f"reading {i}", "assumes": f"Dice weight {i / 2}"} for i in range(12)]
    evidence = {"readings": readings, "decide_by": ["the lowest probability that is predicted", "the rate of occupied cells"]}
    report = ranked([Finding("plateau-at-floor", "note", "The loss settled at 1.193.", evidence)], "run.log")
    for text in (rendering.as_text(report, 80), rendering._plain(report, 80), parsed(report).text):
        assert "readings (10 of 12)" in text
        assert "Dice weight 4.5" in text
        assert "Dice weight 5" not in text
        assert "the rate of occupied cells" in text
    assert '<details class="card note" open>' in rendering.as_html(report)


def test_a_report_of_nothing_is_still_a_report():
    empty = Report((), "Net")
    assert rendering.as_text(empty) == "○ Net: no alarm"
    assert "Net" in parsed(empty).text


# --- terminal -----------------------------------------------------------------------------------------------------------


def test_printing_is_in_colour_on_a_terminal_and_plain_elsewhere(capsys, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    rendering.print_report(rectified())
    assert "\x1b" not in capsys.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    rendering.print_report(rectified())
    coloured = capsys.readouterr().out
    assert "\x1b[1;31m" in coloured
    lines = re.sub(r"\x1b\[[0-9;]*m", "", coloured).splitlines()
    assert [line.rstrip() for line in lines] == rendering.as_text(rectified()).splitlines()


def test_a_terminal_that_knows_ascii_only_gets_question_marks_and_no_traceback(monkeypatch, tmp_path):
    with open(tmp_path / "out", "w", encoding="ascii") as file:
        monkeypatch.setattr(sys, "stdout", file)
        rendering.print_report(rectified())
    assert "bounded-output" in (tmp_path / "out").read_text()


def test_the_text_is_as_wide_as_the_terminal_within_limits(monkeypatch):
    for columns, expected in ((20, 80), (95, 95), (400, 120)):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert max(map(len, rendering.as_text(rectified()).splitlines())) == expected  # the panel's frame


def test_a_sparkline_falls_with_the_loss_and_keeps_to_its_width():
    assert rendering.sparkline([3, 2, 1]) == "█▄▁"
    assert rendering.sparkline([]) == ""
    assert rendering.sparkline([5, 5]) == "▁▁"
    bars = rendering.sparkline(np.linspace(1, 0, 997), 32)
    assert len(bars) == 32
    assert [rendering.BARS.index(b) for b in bars] == sorted((rendering.BARS.index(b) for b in bars), reverse=True)


# --- pictures -----------------------------------------------------------------------------------------------------------


def test_the_floor_at_which_a_loss_ends_is_the_one_that_stands_out():
    picture = loss_picture(range(100), np.linspace(2, 1, 100) ** 0.1, {"far": 0.3, "at its end": 1.0, "beyond": 9.0})
    bold = re.findall(r'class="near-text"[^>]*>([^<]*)<', picture)
    assert bold == ["at its end 1"]
    assert "far 0.3" in picture
    assert "beyond" not in picture  # it would flatten the curve


def test_a_curve_of_a_million_points_keeps_its_one_spike():
    values = np.ones(1_000_000)
    values[654_321] = 7
    picture = loss_picture(np.arange(len(values)), values)
    path = re.search(r'class="line" d="([^"]*)"', picture)[1]
    heights = [float(y) for y in re.findall(r" ([\d.]+)", path)]
    assert heights.count(min(heights)) == 1
    assert max(heights) - min(heights) > 150
    assert len(picture) < 15_000


def test_a_curve_with_gaps_is_drawn_without_them_and_a_restart_lifts_the_pen():
    assert re.search(r'd="M[\d.]+ [\d.]+L[\d.]+ [\d.]+"', loss_picture([0, 1, 2], [1, math.nan, 3]))
    assert re.search(r'class="line" d="([^"]*)"', loss_picture([0, 1, 2, 1, 2], [5, 4, 3, 4, 3]))[1].count("M") == 2
    assert loss_picture([0, 1], [math.nan, math.inf]) == ""
    assert loss_picture([0, 1], [1, 2, 3]) == ""


def test_bars_grow_with_the_logarithm_of_the_count():
    picture = histogram_picture([0, 0.25, 0.5, 0.75, 1], [1, 100, 10_000, 0])
    bars = re.findall(r"M[\d.]+ ([\d.]+)V([\d.]+)", re.search(r'class="bar" d="([^"]*)"', picture)[1])
    one, hundred, most = (float(bottom) - float(top) for bottom, top in bars)  # the empty one is not drawn
    assert hundred - one == pytest.approx(most - hundred, abs=0.2)
    assert "none above 0.75" in picture
    assert histogram_picture([0, 1], [0]) == ""
    assert histogram_picture([0, 0.5, 0.4], [1, 1]) == ""


# --- hostile reports ----------------------------------------------------------------------------------------------------


def test_a_hostile_report_stays_inside_its_page_and_its_terminal():
    report = hostile()
    page = rendering.as_html(report)
    tags = parsed(report)
    assert "script" not in tags.names
    assert '<script>alert("x")' in tags.text  # shown, not run
    assert len(page.encode()) <= 60_000
    text = rendering.as_text(report, 80)
    assert "[bold]red" in text  # brackets are no markup, escapes are gone
    assert len(text) < 100_000
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\ud800]", text + page)
    assert max(map(len, text.splitlines())) <= 80


traps = [EVIL, "[/]", "[red", "\\[x]", "</style>", "&lt;", "\x9b31m", "\N{WOMAN}\u200d\N{GIRL} 漢字"]
texts = st.text(max_size=60) | st.sampled_from(traps)
numbers = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.just(10**400), texts)
nested = st.recursive(numbers, lambda v: st.lists(v, max_size=8) | st.dictionaries(texts, v, max_size=4), max_leaves=12)
experiments = st.none() | st.builds(Experiment, texts, texts, st.floats(), st.floats())
evidences = st.dictionaries(texts, nested, max_size=5)
findings = st.builds(Finding, st.sampled_from(CAUSES), st.sampled_from(VERDICTS), texts, evidences, texts, texts, experiments)
series = st.lists(st.floats() | st.integers(-9, 9), max_size=8) | nested
curves = st.fixed_dictionaries(
    {},
    optional={
        "loss": st.tuples(series, series) | nested,
        "floors": st.dictionaries(texts, st.floats() | nested, max_size=4) | nested,
        "histogram": st.tuples(series, series) | nested,
    },
)


@settings(max_examples=50, deadline=None)
@given(st.lists(findings, max_size=6), texts, curves, st.sampled_from([80, 120]))
def test_any_report_renders_in_every_form_and_nothing_escapes(several, subject, pictures, width):
    report = ranked(several, subject, pictures)
    parsed(report)
    text = rendering.as_text(report, width) + rendering._plain(report, width)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]", text)
    assert rendering.as_sarif(report)["version"] == "2.1.0"


@settings(max_examples=50, deadline=None)
@given(texts, st.integers(1, 400))
def test_cleaning_is_short_printable_and_changes_nothing_the_second_time(text, most):
    once = wording.clean(text, most)
    assert len(once) <= most
    assert once == "" or once.isprintable()
    assert wording.clean(once, most) == once


def test_numbers_read_as_numbers():
    shown = [wording.number(v) for v in (0.123456, 1_234_567, True, None, math.nan, -math.inf, 10**400, [1.0, 2.5], {"a_b": 1})]
    assert shown == ["0.1235", "1,234,567", "yes", "none", "not a number", "-infinite", "about 10^400", "1, 2.5", "a b 1"]
    assert wording.number(list(range(100))) == "0, 1, 2, 3, 4, 5, … (100 in all)"
