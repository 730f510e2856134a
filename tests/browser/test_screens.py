"""Every screen of the workbench at two sizes, light and dark: nothing overlaps, scrolls inside, is cut off, faint or empty."""

from collections.abc import Sequence

import pytest
from bench import Bench, opened, served
from faults import screen_faults

from occlab.workbench.compare import VIEWS

SIZES = ((1280, 720), (1920, 1080))
CURVES, TABLE, PARALLEL, EFFECTS = VIEWS
SCREENS = {
    ("Set up", ""): 0,
    ("Train", ""): 1,
    ("Look", ""): 3,
    ("Compare", CURVES): 1,
    ("Compare", TABLE): 1,
    ("Compare", PARALLEL): 1,
    ("Compare", EFFECTS): 1,
    ("Ablate", "design"): 0,
    ("Ablate", "results"): 1,
    ("Diagnose", ""): 0,
    ("Take home", ""): 0,
}
"""Tabs, what can be seen in them one at a time, and how many live figures there are then."""


def two_runs(bench: Bench, steps: int = 60) -> None:
    """One of each head, a design of both in two seeds, the doctor's cards of the second run, and a table to take home."""
    bench.turn_to("Set up")
    bench.reads(r"\d+ to train on")
    bench.choose("preset", "as it stood")
    bench.write("steps", str(steps))
    for head in ("rectified", "logits"):
        bench.turn_to("Set up")
        bench.choose("head", head)
        bench.press("train this")
        bench.turn_to("Train")
        bench.reads(rf"(?s)finished.*step {steps} of {steps}")
    bench.turn_to("Compare")
    bench.choose_runs("as it stood · seed 0", "head logits · seed 0")
    bench.pin("as it stood · seed 0")
    bench.turn_to("Ablate")
    bench.tick("rectified")
    bench.write("seeds", "2")
    bench.press("run")
    bench.reads("Finished: 4 of 4 runs are made")
    bench.turn_to("Diagnose")
    bench.press("only its log")
    bench.reads("Of the log of")
    bench.turn_to("Take home")
    bench.press("table of runs")
    bench.reads("2 files are in")


def shown(bench: Bench) -> int | None:
    """How many figures can be seen; None while one is still to come."""
    if any(words in bench.text() for words in ("Predicting.", "Comparing ...")):
        return None
    return bench.root.locator(".js-plotly-plot:visible").count()


def lasting_faults(bench: Bench) -> list[str]:
    """Those that are there twice: a busy machine draws late."""
    if screen_faults(bench.page, bench.root):
        bench.page.wait_for_timeout(2000)
        return screen_faults(bench.page, bench.root)
    return []


def faults_of(bench: Bench, name: str, sizes: Sequence[tuple[int, int]] = SIZES) -> list[str]:
    """A sentence for each fault of each screen."""
    found = []
    for width, height in sizes:
        bench.page.set_viewport_size({"width": width, "height": height})
        for (tab, view), figures in SCREENS.items():
            bench.turn_to(tab)
            if view:
                bench.press(view)
            title = f"{name}-{width}-{tab}{'-' * bool(view)}{view}".lower().replace(" ", "-")
            bench.until(lambda n=figures: shown(bench) == n, f"{title} shows {figures} figures")
            found += [f"{title}: {fault}" for fault in lasting_faults(bench)]
            bench.keep(title)
    return found


@pytest.mark.slow
def test_in_jupyterlab(page, own_lab):
    bench = opened(page, own_lab)
    two_runs(bench)
    found = []
    for name in ("Light", "Dark"):
        page.evaluate(f"() => jupyterapp.commands.execute('apputils:change-theme', {{theme: 'JupyterLab {name}'}})")
        page.wait_for_timeout(1000)
        found += faults_of(bench, name)
    assert not found, "\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize(("theme", "size"), [("light", SIZES[0]), ("dark", SIZES[1])])
def test_on_a_page_of_its_own(theme, size, page, own_home, monkeypatch):
    monkeypatch.setenv("OCCLAB_HOME", str(own_home))
    with served(own_home / "screens" / "runs", theme) as (address, _):
        page.goto(address)
        bench = Bench(page)
        two_runs(bench)
        found = faults_of(bench, theme, [size])
        assert not found, "\n".join(found)
