"""Drives a real JupyterLab in a real browser: open a notebook, run it, look at what was drawn.

The browser is the system's own Chromium or Chrome; WebGL runs in software, so no GPU is wanted.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TOKEN = "occlab-test"
SECOND = 1000.0  # playwright counts in milliseconds

PANEL = "[...jupyterapp.shell.widgets('main')].find(widget => widget.sessionContext && widget.context)"
SCENE = "document.querySelector('.js-plotly-plot')?._fullLayout?.scene"


@contextmanager
def headless_browser():
    """The system's browser, without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, headless=True, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def new_page(browser, **options):
    """A page in a profile of its own; the errors its scripts raise are collected in `page.script_errors`."""
    page = browser.new_page(**{"viewport": {"width": 1280, "height": 720}, **options})
    page.add_init_script(path=Path(__file__).with_name("inspect.js"))
    page.script_errors = []
    page.on("pageerror", lambda error: page.script_errors.append(str(error.stack or error)))
    return page


@contextmanager
def jupyterlab(root: Path, settings: Path, **environment: str):
    """JupyterLab over `root` on the loopback address, with settings of its own; yields its address.

    Raises:
        RuntimeError: it did not answer within a minute; the message holds the end of its log.
    """
    news = settings / "lab/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    news.parent.mkdir(parents=True)
    news.write_text('{"fetchNews": "false", "checkForUpdates": false}')  # else a question lies over the page
    log = settings / "server.log"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={root}"]
    command += ["--LabApp.expose_app_in_browser=True"]
    own = {
        "JUPYTERLAB_SETTINGS_DIR": str(settings / "lab"),
        "JUPYTERLAB_WORKSPACES_DIR": str(settings / "workspaces"),
        "JUPYTER_CONFIG_DIR": str(settings / "config"),
        "JUPYTER_PREFER_ENV_PATH": "1",
    }
    with log.open("w") as stream:
        server = subprocess.Popen(command, env={**os.environ, **own, **environment}, stdout=stream, stderr=stream)
        try:
            _wait_until_up(server, f"http://127.0.0.1:{port}/api/status?token={TOKEN}", log)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(30)


def _wait_until_up(server: subprocess.Popen, status: str, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(status, timeout=2).close()
            return
        except OSError:
            time.sleep(0.3)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


def open_notebook(page, address: str, name: str) -> None:
    """Open a notebook and wait for its kernel; earlier, running all cells would hang on a question about kernels.

    What was open is closed, and its kernel ended. JupyterLab itself is loaded once. The WebGL contexts of what is closed
    are given back at once: a browser has 16, and waits for its garbage collector to do so.
    """
    if page.url.startswith(address) and page.evaluate("() => Boolean(window.jupyterapp)"):
        page.evaluate("""async path => {
            for (const canvas of document.querySelectorAll('canvas'))
                (canvas.getContext('webgl') ?? canvas.getContext('webgl2'))?.getExtension('WEBGL_lose_context')?.loseContext();
            for (const widget of [...jupyterapp.shell.widgets('main')]) {
                await widget.sessionContext?.shutdown();
                if (widget.context) widget.context.model.dirty = false;  // else it asks whether to save
                widget.close();
            }
            await jupyterapp.commands.execute('docmanager:open', {path});
        }""", name)  # fmt: skip
    else:
        page.goto(f"{address}/lab/tree/{name}?token={TOKEN}&reset", wait_until="domcontentloaded")
        page.wait_for_selector(".jp-NotebookPanel .jp-Notebook", timeout=90 * SECOND)
    page.wait_for_function(f"window.jupyterapp && {PANEL}", timeout=60 * SECOND, polling=200)
    page.evaluate(f"""async () => {{
        const panel = {PANEL};
        const ready = async () => {{
            await panel.context.ready; await panel.revealed; await panel.sessionContext.ready;
            await panel.sessionContext.session.kernel.info;
        }};
        const late = (resolve, reject) => setTimeout(() => reject(new Error('not ready after a minute')), 60000);
        await Promise.race([ready(), new Promise(late)]);
        jupyterapp.shell.activateById(panel.id);
    }}""")
    page.wait_for_function("jupyterapp.shell.currentWidget?.sessionContext", timeout=60 * SECOND, polling=200)


def run_all(page, timeout: float = 300) -> tuple[bool, list[dict]]:
    """Run every cell.

    Args:
        timeout: in seconds.

    Returns:
        whether JupyterLab says that all ran, and the outputs of the notebook in order.
    """
    page.set_default_timeout(timeout * SECOND)
    finished = page.evaluate("() => jupyterapp.commands.execute('notebook:run-all-cells')")
    notebook = page.evaluate(f"() => {PANEL}.context.model.toJSON()")
    return finished, [output for cell in notebook["cells"] for output in cell.get("outputs", [])]


def scroll_to_scene(page) -> None:
    """Bring the first 3-D figure into view and wait until WebGL has drawn it; JupyterLab draws what is in view only."""
    mime = '[data-mime-type="application/vnd.plotly.v1+json"], .js-plotly-plot'
    page.locator(mime).first.scroll_into_view_if_needed(timeout=60 * SECOND)
    page.wait_for_function(f"{SCENE}?._scene?.glplot", timeout=120 * SECOND, polling=200)
    page.wait_for_timeout(1.5 * SECOND)


def scene_pixels(page, scene: str = SCENE) -> dict[str, int]:
    """What the WebGL canvas of a 3-D scene shows: how many pixels, how many different colours, and a number that stands for the
    picture; all 0 where nothing is drawn yet.

    Args:
        scene: script that finds it on the page; by default that of the first figure.
    """
    return page.evaluate(f"""() => {{
        const plot = ({scene})?._scene?.glplot;
        if (!plot) return {{pixels: 0, colours: 0, picture: 0}};
        plot.redraw();
        const gl = plot.gl, width = gl.drawingBufferWidth, height = gl.drawingBufferHeight;
        const bytes = new Uint8Array(4 * width * height);
        gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, bytes);
        const words = new Uint32Array(bytes.buffer), picture = words.reduce((sum, word) => (Math.imul(sum, 31) + word) | 0, 7);
        return {{pixels: width * height, colours: new Set(words).size, picture}};
    }}""")


def camera_eye(page) -> tuple[float, float, float]:
    eye = page.evaluate(f"() => {SCENE}._scene.getCamera().eye")
    return eye["x"], eye["y"], eye["z"]


def drag(page, element, dx: float = 120, dy: float = -20) -> None:
    """Drag across the middle of an element, in pixels."""
    box = element.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    for part in range(1, 9):
        page.mouse.move(x + dx * part / 8, y + dy * part / 8)
    page.mouse.up()
    page.wait_for_timeout(0.5 * SECOND)
