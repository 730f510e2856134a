"""What a reader would find broken in a notebook that is open in JupyterLab, scrolled through from top to bottom."""

import re
from contextlib import suppress

import cv2
import numpy as np
from lab import PANEL, SECOND
from playwright.sync_api import Error, Locator, Page

from occlab.pages import PLOTLY_MIME

MESSAGES = re.compile(
    r"Error displaying widget|Error creating widget|Error rendering|Javascript Error|Loading widget", re.IGNORECASE
)
"""What JupyterLab writes in the place of an output that it cannot show."""

LOOKS = ("scrolling", "overlaps", "cutOff", "faint")
"""What of ``inspect.js`` a screen is looked at with."""

FEWEST = 30
"""Pixels that the data of a figure changes at least; one small marker does."""


def faults(page: Page) -> list[str]:
    """A sentence for each fault, with the index of its cell; none for a notebook that is as it should be."""
    cells = page.evaluate(f"() => {PANEL}.context.model.toJSON().cells")
    lost, found = page.evaluate("seen.lost()"), []
    places = page.locator(".jp-NotebookPanel:visible .jp-Notebook .jp-Cell")
    for index, cell in enumerate(cells):
        found += [f"cell {index}: {fault}" for fault in cell_faults(page, places.nth(index), cell.get("outputs", []))]
    found += places.evaluate_all("all => all.flatMap((e, i) => seen.scrolling(e).map(fault => `cell ${i}: ${fault}`))")
    lost = page.evaluate("seen.lost()") - lost
    return found + [f"{lost} WebGL contexts were lost"] * (lost > 0) + [f"script error: {e}" for e in page.script_errors]


def screen_faults(page: Page, root: Locator) -> list[str]:
    """A sentence for each fault of what can be seen of an element, such as a tab of the workbench: what lies over other
    things, scrolls on its own, is cut off, is hard to read, or is an empty figure."""
    found = [fault for look in LOOKS for fault in root.evaluate(f"e => seen.{look}(e)")]
    figures = root.locator(".js-plotly-plot:visible")
    for i in range(figures.count()):
        found += figure_faults(page, figures.nth(i))
    return found


def cell_faults(page: Page, cell: Locator, wanted: list[dict]) -> list[str]:
    """The faults of one cell.

    Args:
        wanted: its outputs, as they stand in the file.
    """
    try:
        page.mouse.move(1, 1)  # a figure that comes under it would go live
        cell.scroll_into_view_if_needed(timeout=20 * SECOND)
        if wanted:
            cell.locator(".jp-OutputArea-output").last.wait_for(state="attached", timeout=20 * SECOND)
            with suppress(Error):  # those that come to nothing are told below
                cell.locator(".jp-OutputArea-output").last.wait_for(timeout=2 * SECOND)
        shown = cell.evaluate("e => seen.contents(e)")
    except Error:
        return ["its outputs were not shown"]
    found = [f"says {said!r}" for said in set(MESSAGES.findall(shown["text"]))] + ["an output is empty"] * shown["empty"]
    found += [f"the image {name!r} is broken" for name in shown["broken"]]
    found += [f"a picture of {n} colours" for n in shown["colours"] if n < 20]
    expected = sum(PLOTLY_MIME in output.get("data", {}) for output in wanted)
    if shown["figures"] != expected:
        found.append(f"shows {shown['figures']} Plotly figures, holds {expected}")
    for i in range(shown["figures"]):
        found += figure_faults(page, cell.locator(".jp-RenderedPlotly").nth(i))
    return found


def figure_faults(page: Page, figure: Locator) -> list[str]:
    """The faults of one Plotly figure. JupyterLab shows its still picture until the mouse comes."""
    try:
        figure.scroll_into_view_if_needed(timeout=20 * SECOND)
        box = figure.bounding_box()
        # Not onto the middle: plotly's search for what lies under the mouse fails while a mesh is drawn for the first time.
        page.mouse.move(box["x"] + 5, min(max(box["y"], 0) + 200, box["y"] + box["height"] - 5))
        page.wait_for_function("e => seen.drawn(e)", arg=figure.element_handle(), timeout=60 * SECOND, polling=50)
        scenes = figure.evaluate("e => seen.sceneInk(e)")
        found = ["its WebGL context is lost" for scene in scenes if scene["lost"]]
        if any(scene["changed"] < FEWEST or scene["colours"] < 3 for scene in scenes):
            found.append("a 3-D scene shows nothing")
        if not scenes and trace_pixels(page, figure) < FEWEST:
            found.append("a figure shows nothing")
        return found
    except Error as error:
        return [f"a figure is not drawn ({error.message.splitlines()[0]})"]


def trace_pixels(page: Page, figure: Locator) -> int:
    """How many pixels of a 2-D figure its data changes, of those in view."""
    figure.evaluate("e => e.scrollIntoView({block: 'center'})")  # it may be taller than its still picture was
    shown = picture(page, figure)
    figure.evaluate("e => seen.hideTraces(e, true)")
    try:
        return pixels_that_differ(shown, picture(page, figure))
    finally:
        figure.evaluate("e => seen.hideTraces(e, false)")


def picture(page: Page, element: Locator) -> np.ndarray:
    """The part of an element that is in view, as (height, width, 3) bytes."""
    box, view = element.bounding_box(), page.viewport_size
    left, top = max(box["x"], 0), max(box["y"], 0)
    right, bottom = min(box["x"] + box["width"], view["width"]), min(box["y"] + box["height"], view["height"])
    clip = {"x": left, "y": top, "width": right - left, "height": bottom - top}
    png = page.screenshot(clip=clip, animations="disabled")
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)


def pixels_that_differ(a: np.ndarray, b: np.ndarray) -> int:
    """All of them, where two pictures differ in size."""
    return int((a != b).any(axis=-1).sum()) if a.shape == b.shape else max(a[..., 0].size, b[..., 0].size)
