"""A notebook in a real JupyterLab and a real browser, that says when something new is drawn and how many bytes came for it."""

import base64
import ctypes
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "tests" / "browser"))
import lab  # noqa: E402

MOST = 2000
"""Looks, 30 ms apart where the page has time, after which a frame that does not come is given up."""
RUN = """code => {
    jupyterapp.shell.currentWidget.content.widgets[0].model.sharedModel.setSource(code);
    return jupyterapp.commands.execute('notebook:run-all-cells');
}"""
ASK = """async code => {
    const session = jupyterapp.shell.currentWidget.sessionContext.session, said = {text: '', error: ''};
    const future = session.kernel.requestExecute({code, store_history: false});
    future.onIOPub = ({header, content}) => {
        if (header.msg_type === 'stream' && content.name === 'stdout') said.text += content.text;
        if (header.msg_type === 'error') said.error = content.traceback.join('\\n');
    };
    await future.done;
    return said;
}"""


@dataclass(frozen=True)
class Drawn:
    """What came of an action."""

    milliseconds: float
    """From the request in the page to the last frame that showed something new, drawn to its end."""
    megabytes: float
    """What the kernel sent to the page for it, 10^6 bytes."""


class LivePage:
    """One notebook with one cell, open in the browser; made by :func:`live_page`."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.browser = f"Chromium {page.context.browser.version.split('.')[0]}"

    def ask(self, code: str) -> str:
        """Run code in the kernel; returns what it prints.

        Raises:
            RuntimeError: the code's own error.
        """
        said = self.page.evaluate(ASK, code)
        if said["error"]:
            raise RuntimeError(said["error"])
        return said["text"].strip()

    def run(self, code: str) -> None:
        """Put code into the cell and run it."""
        self.page.evaluate(RUN, code)

    def show(self, code: str) -> Drawn:
        """The same, for code that draws something."""
        return self.timed(RUN, code)

    def do(self, code: str) -> Drawn:
        """Run code in the kernel that changes what is shown."""
        return self.timed(ASK, code)

    def timed(self, action: str, argument: Any = None) -> Drawn:
        """Call a JavaScript function and wait until what it changes is drawn.

        Raises:
            RuntimeError: an error of the kernel's, or nothing new was drawn in a minute or more.
        """
        found = self.page.evaluate(
            f"""async ([argument, most]) => {{
                drawn.frames = [];
                const since = drawn.clock(), bytes = drawn.bytes;
                const said = await ({action})(argument);
                if (said === false || said?.error) return said.error ?? 'the cell raised an error';
                const time = await drawn.settled(since, most);
                return time ? [time - since, (drawn.bytes - bytes) / 1e6] : 'nothing new was drawn';
            }}""",
            [argument, MOST],
        )
        if isinstance(found, str):
            raise RuntimeError(found)
        return Drawn(*found)

    def turn(self, scene: str, seconds: float) -> list[float]:
        """Drag over the last element of a CSS selector, for so long and until a frame was drawn.

        Returns:
            when frames were drawn, in milliseconds from the first movement.

        Raises:
            RuntimeError: none was in a minute.
        """
        box = self.box(scene)
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        began = self.page.evaluate("() => { drawn.frames = []; drawn.fence = false; return drawn.clock(); }")
        moves, times, end = 0, [], time.monotonic() + seconds
        while time.monotonic() < end + (0 if times else 60):
            moves += 1
            self.page.mouse.move(x + 4 * (moves % 60), y + moves % 30)
            times = self.page.evaluate("() => drawn.frames.map(frame => frame.time)")
        self.page.evaluate("() => { drawn.fence = true; }")
        self.page.mouse.up()
        if not times:
            raise RuntimeError("the scene did not turn")
        return [time - began for time in times]

    def covered(self, scene: str) -> float:
        """The share of pixels of the last element of a CSS selector that are not white."""
        picture = base64.b64encode(self.page.screenshot(clip=self.box(scene))).decode()
        return self.page.evaluate(
            """async picture => {
                const bitmap = await createImageBitmap(await (await fetch('data:image/png;base64,' + picture)).blob());
                const paint = new OffscreenCanvas(bitmap.width, bitmap.height).getContext('2d');
                paint.drawImage(bitmap, 0, 0);
                const {data} = paint.getImageData(0, 0, bitmap.width, bitmap.height);
                let found = 0;
                for (let i = 0; i < data.length; i += 4) found += Math.min(data[i], data[i + 1], data[i + 2]) < 250;
                return found / (bitmap.width * bitmap.height);
            }""",
            picture,
        )

    def clear(self) -> None:
        """Take away what the cell shows, and what it holds of the graphics card."""
        self.page.evaluate("() => drawn.release()")
        self.run("")

    def box(self, scene: str) -> dict[str, float]:
        """Where the last element of a CSS selector that can be seen is."""
        return self.page.locator(scene).locator("visible=true").last.bounding_box()


@contextmanager
def orphans() -> Iterator[None]:
    """Take in the processes that a browser leaves behind, so that their processor time counts as ours; on Linux."""
    if sys.platform != "linux":
        yield
        return
    prctl, set_child_subreaper = ctypes.CDLL(None).prctl, 36
    prctl(set_child_subreaper, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(set_child_subreaper, 0, 0, 0, 0)
        end = time.monotonic() + 5
        with suppress(ChildProcessError):  # there are none
            while time.monotonic() < end:
                if os.waitpid(-1, os.WNOHANG) == (0, 0):
                    time.sleep(0.05)


@contextmanager
def live_page(setup: str, width: int, height: int) -> Iterator[LivePage]:
    """A notebook whose kernel has run ``setup``, on a page of so many pixels.

    Raises:
        RuntimeError: no browser, or JupyterLab did not start, or the set-up's own error.
    """
    if not lab.BROWSER:
        raise RuntimeError("no Chromium or Chrome here: apt-get install chromium")
    import nbformat

    with TemporaryDirectory() as folder, orphans():
        root = Path(folder) / "root"
        root.mkdir()
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("")])
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, root / "page.ipynb")
        with lab.jupyterlab(root, Path(folder) / "settings") as address, lab.headless_browser() as browser:
            page = lab.new_page(browser, viewport={"width": width, "height": height})
            page.add_init_script(path=HERE / "drawn.js")
            lab.open_notebook(page, address, "page.ipynb")
            live = LivePage(page)
            live.ask(setup)
            yield live
