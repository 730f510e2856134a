"""How long the workbench takes to answer, in a real JupyterLab and a real browser: from a key or a training step to what is
drawn.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from live_page import PATIENCE, LivePage, live_page

SETUP = """
import tempfile, threading, time
from pathlib import Path
from occlab.frames import sample_frames
from occlab.training import fast_precision, preset
from occlab.workbench import Workbench
from occlab.workbench.knobs import sizes
folder = tempfile.TemporaryDirectory()
frames = sample_frames()
"""
TRAIN = """
size = sizes()[{size!r}]
snapshots = tuple(range(0, {steps} + 1, {steps} // 10))
config = preset("repaired", size, steps={steps}, snapshot_steps=snapshots, precision=fast_precision())
bench.desk.set_up(config=config, name="latency {size}", frames=frames[:3], held_out=frames[3:], source="the sample frames")
session, made = bench.desk.new_session(), []
def watch():
    while session.state not in ("finished", "failed"):
        if session.steps_made > len(made):
            made.append(time.time())
        time.sleep(0.002)
threading.Thread(target=watch, daemon=True).start()
"""
SIZES = {"small, cells of 1.2 m": 80, "small": 40}
"""Steps of training by the size's name in the workbench."""
QUICK = {"tiny": 40}
FIGURES = "[...document.querySelectorAll('.occlab .js-plotly-plot')].filter(plot => plot.offsetParent)"
LAST_STEP = f"{FIGURES}.flatMap(plot => plot._fullData).find(trace => trace.name === 'loss')?.x?.at(-1) ?? 0"
SLICE = f"{FIGURES}.map(plot => plot._fullLayout.title.text).find(text => text?.includes('channel'))"
WORDS = "document.querySelector('.occlab-setup').innerText"


def tables(device: str, quick: bool, left_out: list[str]) -> list[dict[str, Any]]:
    """A table a size. ``device`` is always the processor."""
    with live_page(SETUP) as live:
        live.page.set_viewport_size({"width": 1280, "height": 900})
        live.run("bench = Workbench(Path(folder.name)); bench")
