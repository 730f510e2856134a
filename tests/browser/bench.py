"""The workbench as a person has it before them: tabs, fields and buttons by what is written on them, in JupyterLab or on a page
of its own."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from lab import PANEL, SECOND, open_notebook, scene_pixels

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"

LONG = 120 * SECOND

# The figures of the workbench that can be seen, those with a 3-D scene or those without.
_FIGURES = """(deep) => [...document.querySelectorAll('.occlab .js-plotly-plot')].filter(
    plot => plot.offsetParent !== null && Boolean(plot._fullLayout?.scene) === deep)"""


def run_cell(page: Any, holding: str) -> None:
    """Run the first cell of the open notebook whose source holds this."""
    page.evaluate(
        f"""async (holding) => {{
            const notebook = {PANEL}.content;
            notebook.activeCellIndex = notebook.widgets.findIndex(cell => cell.model.sharedModel.source.includes(holding));
            await jupyterapp.commands.execute('notebook:run-cell');
        }}""",
        holding,
    )


class Bench:
    """The workbench of a page, which must show it already.

    Args:
        where: the beginning of its screenshots' names.
    """

    def __init__(self, page: Any, where: str = "served") -> None:
        self.page, self.where = page, where
        self.root = page.locator(".occlab").last
        self.root.wait_for(timeout=150 * SECOND)

    # --- hands --------------------------------------------------------------------------------------------------------

    def turn_to(self, tab: str) -> None:
        self.root.get_by_role("tab", name=tab, exact=True).click()
        self.page.wait_for_timeout(0.5 * SECOND)

    def press(self, words: str) -> None:
        """Press a button by a part of what is written on it."""
        button = self.button(words)
        self.until(lambda: button.is_enabled(), f"{words!r} can be pressed")
        button.click()

    def choose(self, label: str, option: str) -> None:
        """Choose from a list that drops down."""
        self.root.get_by_label(label, exact=True).locator("visible=true").select_option(label=option)
        self.page.wait_for_timeout(0.3 * SECOND)

    def choose_runs(self, *runs: str) -> None:
        """Choose runs under Compare; only these are chosen then."""
        labels = [run.replace(" ", "\N{NO-BREAK SPACE}") for run in runs]
        self.root.get_by_title("Runs to compare").select_option(label=labels)

    def pin(self, run: str) -> None:
        """Choose the run that others are compared with, under Compare."""
        self.root.get_by_title("Pin a chosen run").select_option(label=run.replace(" ", "\N{NO-BREAK SPACE}"))

    def write(self, label: str, text: str) -> None:
        field = self.root.get_by_label(label, exact=True).locator("visible=true")
        field.fill(text)
        field.press("Enter")
        self.page.wait_for_timeout(0.3 * SECOND)

    def tick(self, label: str) -> None:
        self.root.get_by_label(label, exact=True).locator("visible=true").check()
        self.page.wait_for_timeout(0.3 * SECOND)

    def slide(self, label: str, key: str, times: int = 1) -> None:
        """Move a slider with the keyboard, such as by ``ArrowRight``, ``Home`` or ``PageUp``."""
        field = self.root.locator(".widget-inline-hbox, .jupyter-widgets.widget-inline-hbox").filter(
            has=self.page.locator("label", has_text=re.compile(rf"^{re.escape(label)}$"))
        )
        handle = field.locator(".noUi-handle, input[type=range]").locator("visible=true").first
        handle.focus()
        for _ in range(times):
            handle.press(key)
        self.page.wait_for_timeout(0.3 * SECOND)

    # --- eyes ---------------------------------------------------------------------------------------------------------

    def button(self, words: str) -> Any:
        return self.root.get_by_role("button", name=words).locator("visible=true").first

    def text(self) -> str:
        """All that can be read."""
        return self.root.inner_text()

    def until(self, happened: Any, what: str, timeout: float = LONG) -> Any:
        """Wait until ``happened()`` is true, and return what it said."""
        for _ in range(int(timeout / 250)):
            if said := happened():
                return said
            self.page.wait_for_timeout(250)
        raise AssertionError(f"waited in vain until {what}; the workbench says: {self.text()[:1500]}")

    def reads(self, pattern: str, timeout: float = LONG) -> re.Match:
        """Wait until the workbench says something of this form."""
        return self.until(lambda: re.search(pattern, self.text()), f"it says {pattern!r}", timeout)

    def errors(self) -> list[str]:
        """What the cards above the tabs say, and those of a failed training, with what they fold away."""
        return self.root.locator(".occlab-card.bad:visible").all_text_contents()

    def steps_made(self) -> int:
        found = re.search(r"step (\d+) of \d+", self.text().split("steps made")[-1])
        return int(found[1]) if found else 0

    def curves(self) -> dict[str, list[float]]:
        """The last values of each named curve in the flat figures that can be seen."""
        return self.page.evaluate(f"""() => Object.fromEntries(({_FIGURES})(false).flatMap(plot => plot._fullData)
            .filter(trace => trace.name && trace.y?.length).map(trace => [trace.name, Array.from(trace.y).slice(-20)]))""")

    def keep(self, name: str) -> None:
        """A screenshot."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.root.scroll_into_view_if_needed()
        self.page.screenshot(path=SCREENSHOTS / f"{self.where}-{name}.png")

    def written(self) -> list[str]:
        """The texts written into the figures that can be seen."""
        return self.page.evaluate(f"""() => [...({_FIGURES})(false), ...({_FIGURES})(true)].flatMap(
            plot => [...plot.querySelectorAll('text')].map(text => text.textContent))""")

    def cameras(self) -> list[tuple[float, float, float]]:
        """Where the scenes of the 3-D figure that can be seen are looked at from."""
        eyes = self.page.evaluate(f"""() => {{
            const layout = ({_FIGURES})(true)[0]._fullLayout;
            return layout._subplots.gl3d.map(id => layout[id]._scene.getCamera().eye);
        }}""")
        return [(eye["x"], eye["y"], eye["z"]) for eye in eyes]

    def scene(self) -> dict[str, int]:
        """The 3-D scene that can be seen: its pixels, how many colours, and a number that stands for the picture."""
        return scene_pixels(self.page, f"({_FIGURES})(true)[0]?._fullLayout.scene")

    def changed_scene(self, before: dict[str, int]) -> dict[str, int]:
        """Wait until the picture is another one."""
        return self.until(lambda: (now := self.scene())["picture"] != before["picture"] and now, "the 3-D picture has changed")


def opened(page: Any, address: str) -> Bench:
    """The workbench of the notebook, in JupyterLab."""
    open_notebook(page, address, "notebooks/10_workbench.ipynb")
    run_cell(page, "Workbench()")
    return Bench(page, "lab")


@contextmanager
def served(runs: Path, theme: str = "light") -> Iterator[tuple[str, subprocess.Popen]]:
    """``occlab workbench``; yields the address of its page, and its process."""
    command = [sys.executable, "-m", "occlab", "workbench", "--no-browser", "--runs", str(runs), "--profile", "tiny"]
    server = subprocess.Popen([*command, "--theme", theme], stdout=subprocess.PIPE, text=True, env=os.environ)
    try:
        line = server.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, line
        yield found[0], server
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=60)


def kernel_of_notebook(page: Any) -> psutil.Process | None:
    """The Python behind the notebook that is open in JupyterLab; None while there is none."""
    file = f"kernel-{page.evaluate(f'() => {PANEL}.sessionContext.session.kernel.id')}.json"
    found = (p for p in psutil.process_iter(["cmdline"]) if any(file in word for word in p.info["cmdline"] or ()))
    return next(found, None)


def kernel_of(server: subprocess.Popen) -> psutil.Process:
    """The one Python behind the page of :func:`served`."""
    (kernel,) = [p for p in psutil.Process(server.pid).children(recursive=True) if "ipykernel_launcher" in p.cmdline()]
    return kernel
