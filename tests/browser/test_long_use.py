"""A workbench that is used for long holds no more than at first: threads and memory of its Python, memory of its page."""

from statistics import median

import psutil
import pytest
from bench import Bench, kernel_of, served

CYCLES, MOVES = 10, 5
"""Trainings that are started and stopped, and sliders that are moved in each."""
MORE = 1.05
"""The most that kernel and page may hold at the end (the median after the last three cycles), over what they held at first."""
WARM = 3
"""Cycles after which a page is at its first level: until then the browser compiles what runs often, and still does after. Of
2.8 MB that a page gained from the third cycle to the tenth 2.1 MB were code."""


@pytest.mark.slow
def test_ten_trainings_and_fifty_moves_leave_nothing_behind(page, own_home, monkeypatch):
    monkeypatch.setenv("OCCLAB_HOME", str(own_home))
    with served(own_home / "long" / "runs") as (address, server):
        page.goto(address)
        bench = Bench(page)
        bench.turn_to("Set up")
        bench.reads(r"\d+ to train on")
        bench.write("steps", "5000")
        kernel = kernel_of(server)
        held = []
        for _ in range(CYCLES):
            cycle(bench)
            held.append(holds(page, kernel))
            print(held[-1])
        last = {what: median(after[what] for after in held[-3:]) for what in held[0]}
        assert held[-1]["threads"] <= held[0]["threads"]
        assert last["kernel MB"] <= MORE * held[0]["kernel MB"]
        assert last["page MB"] <= MORE * held[WARM - 1]["page MB"]


def cycle(bench: Bench) -> None:
    """Start, look from many sides, stop, and back to the first step."""
    bench.turn_to("Train")
    bench.press("▶ start")
    bench.reads(r"training\s+step [1-9]\d* of 5000")
    bench.turn_to("Look")
    shown = bench.until(lambda: (now := bench.scene())["colours"] > 20 and now, "the volume is drawn")
    moves = [("threshold", "ArrowLeft"), ("threshold", "PageUp"), ("height", "ArrowRight"), ("step", "Home"), ("step", "End")]
    assert len(moves) == MOVES
    for slider, key in moves:
        bench.slide(slider, key)
    bench.changed_scene(shown)
    bench.slide("threshold", "ArrowRight")
    bench.slide("threshold", "PageDown")
    bench.turn_to("Train")
    bench.press("■ stop")
    bench.reads(r"stopped; its folder keeps every step")
    bench.press("↺ reset")
    bench.reads(r"step 0 of 5000")


def holds(page, kernel: psutil.Process) -> dict[str, float]:
    """Threads, and 10^6 bytes."""
    page.wait_for_timeout(1500)
    browser = page.context.new_cdp_session(page)
    browser.send("HeapProfiler.collectGarbage")
    used = browser.send("Runtime.getHeapUsage")["usedSize"]
    browser.detach()
    return {"threads": kernel.num_threads(), "kernel MB": kernel.memory_info().rss / 1e6, "page MB": used / 1e6}
