"""How long the workbench takes to answer, in a real JupyterLab and a real browser: from a key, a choice or a training step to
what is drawn.
"""

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
from live_page import LivePage, live_page

SETUP = """
import tempfile, threading, time
from pathlib import Path
from occlab.frames import sample_frames
from occlab.training import fast_precision, preset
from occlab.workbench import Workbench
from occlab.workbench.knobs import sizes
folder, frames = tempfile.TemporaryDirectory(), sample_frames()
"""
SET_UP = """
size, steps = sizes()[{size!r}], {steps}
snapshots = tuple(range(0, steps + 1, steps // 10))
config = preset("repaired", size, steps=steps, snapshot_steps=snapshots, precision=fast_precision())
bench.desk.set_up(config=config, name={size!r}, frames=frames[:3], held_out=frames[3:], source="the sample frames")
session, made = bench.desk.new_session(), []
def note():
    while session.state not in ("finished", "failed"):
        made.extend([time.time()] * (session.steps_made - len(made)))
        time.sleep(0.002)
threading.Thread(target=note, daemon=True).start()
"""
AT = """
look, p = bench.tabs["Look"], bench.tabs["Look"].picture.p
look.threshold.value = round(float(p.flatten().kthvalue(p.numel() - {voxels}).values), 2)
print(f"{{int((p > look.threshold.value).sum()):,}}")
"""
VOXELS = 30_000
"""About as many are predicted where a threshold is chosen for it."""
SIZES = {"small, cells of 1.2 m": 80, "small": 40}
"""Training steps by the name that a size has in the workbench."""
QUICK = {"tiny": 40}
MOST = 300
"""Looks, 30 ms apart where the page has time, after which an answer that does not come is given up."""

_FLAT = "[...document.querySelectorAll('.occlab .js-plotly-plot')].filter(plot => plot.offsetParent && !plot._fullLayout.scene)"
WORDS = "document.querySelector('.occlab-setup').textContent"
LAST_STEP = f"{_FLAT}.flatMap(plot => plot._fullData).find(trace => trace.name === 'loss')?.x?.at(-1) ?? 0"
SLICE = f"{_FLAT}.map(plot => plot._fullLayout.title.text).find(text => text?.includes('channel'))"
STOPPED = "document.querySelector('.occlab [role=status]').textContent.startsWith('stopped')"
SCENE = ".occlab .gl-container canvas"


def tables(device: str, quick: bool, left_out: list[str]) -> list[dict[str, Any]]:
    """A table a size. ``device`` is always the processor."""
    with live_page(SETUP, 1280, 720) as live:
        from bench import Bench  # beside lab.py, which live_page has found

        live.run("bench = Workbench(Path(folder.name))\nbench")
        bench, content = Bench(live.page), []
        for size, steps in (QUICK if quick else SIZES).items():
            rows = [_row(name, found) for name, found in measure(live, bench, size, steps, 3 if quick else 20).items()]
            grid = live.ask("print(*reversed(size.grid.shape), sep=' x ')")
            voxels = live.ask("p = bench.tabs['Look'].picture.p; print(f'{int((p > 0.5).sum()):,}')")
            lab = f"JupyterLab {version('jupyterlab')}, {live.browser}, WebGL in software, 1280 x 720"
            content.append({"title": f"{grid} cells, {voxels} voxels predicted; {lab}", "rows": rows})
        live.ask("bench.close(); folder.cleanup()")
    return content


def measure(live: LivePage, bench: Any, size: str, steps: int, times: int) -> dict[str, list[float]]:
    """What a person does, and how many milliseconds each answer took."""
    live.ask(SET_UP.format(size=size, steps=steps))
    found = {}
    bench.turn_to("Set up")
    bench.reads(r"\d+ to train on")
    rates = ("5e-4", "1e-3")
    found["Set up: a knob to what is said of it"] = answers(
        live, lambda i: bench.choose("learning rate", rates[i % 2]), times, WORDS
    )
    bench.turn_to("Train")
    found["Train: a step to its curves"] = steps_to_curves(live, bench, steps)
    bench.turn_to("Look")
    bench.until(lambda: bench.scene()["colours"] > 20, "the volume is drawn")
    live.page.wait_for_timeout(1_000)
    back_and_forth = lambda i: "ArrowLeft" if i < times / 2 else "ArrowRight"  # noqa: E731
    found["Look: threshold to mesh"] = answers(live, lambda i: bench.slide("threshold", back_and_forth(i)), times)
    bench.slide("step", "ArrowLeft")  # from "now" to the last step, which is the same
    found["Look: step to mesh"] = answers(live, lambda i: bench.slide("step", "ArrowLeft"), min(times, 9))
    found["Look: height to slice"] = answers(live, lambda i: bench.slide("height", back_and_forth(i)), times, SLICE)
    found["Look: turning, from frame to frame"] = list(np.diff(live.turn(SCENE, 0.1 * times)))
    voxels = live.ask(AT.format(voxels=VOXELS))
    live.page.wait_for_timeout(2_000)
    found[f"Look: threshold to mesh, about {voxels} voxels"] = answers(
        live, lambda i: bench.slide("threshold", back_and_forth(i)), times
    )
    found[f"Look: turning, about {voxels} voxels"] = list(np.diff(live.turn(SCENE, 0.1 * times)))
    bench.turn_to("Train")
    found["Train: stop to stopped"] = [one for _ in range(min(times, 9)) for one in stop(live, bench, steps)]
    return found


def stop(live: LivePage, bench: Any, steps: int) -> list[float]:
    """Milliseconds from the button to "stopped", of a training that has just begun."""
    bench.press("reset")
    bench.reads(rf"step 0 of {steps}")
    bench.press("start")
    bench.reads(rf"training\s+step [1-9]\d* of {steps}")
    return answers(live, lambda _: bench.press("stop"), 1, STOPPED)


def answers(live: LivePage, act: Callable[[int], None], times: int, read: str | None = None) -> list[float]:
    """Act so many times, and wait for each answer.

    Args:
        read: JavaScript of what changes; by default the 3-D scene.

    Returns:
        milliseconds from the key or the choice until the answer was drawn; fewer than ``times`` where nothing had to change.
    """
    found = []
    for i in range(times):
        follow = f"drawn.follow(() => {read})" if read else "[]"
        live.page.evaluate(f"() => {{ drawn.frames = []; drawn.read = {follow}; }}")
        act(i)
        answer = live.page.evaluate(
            f"""async () => {{
                const time = await drawn.settled(drawn.touched, {MOST}, {"drawn.read" if read else "drawn.frames"});
                return time && time - drawn.touched;
            }}"""
        )
        found += [answer] if answer else []
    return found


def steps_to_curves(live: LivePage, bench: Any, steps: int) -> list[float]:
    """Milliseconds from the end of each training step until the curves had it."""
    live.page.evaluate(f"() => {{ drawn.read = drawn.follow(() => {LAST_STEP}); }}")
    bench.press("start")
    bench.reads(rf"(?s)finished.*step {steps} of {steps}", 400_000)
    live.page.wait_for_timeout(2_000)
    frames, ahead = live.page.evaluate("() => [drawn.read, Date.now() - drawn.clock()]")
    made = [1e3 * float(time) for time in live.ask("print(*made)").split()]
    drawn = [min((f["time"] + ahead for f in frames if f["value"] >= n), default=None) for n in range(1, steps + 1)]
    return [b - a for a, b in zip(made, drawn, strict=True) if b is not None]


def _row(name: str, found: list[float]) -> dict[str, Any]:
    median, late = np.percentile(found, [50, 95]) if found else ("", "")
    return {"what": name, "times": len(found), "median ms": float(median), "95th percentile ms": float(late)}
