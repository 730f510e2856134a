"""What a person would find broken on a screen of the workbench."""

from faults import figure_faults
from playwright.sync_api import Locator, Page

CHECKS = ("scrolling", "overlaps", "cutOff", "faint")


def screen_faults(page: Page, root: Locator) -> list[str]:
    """A sentence for each fault of what is shown of an element.

    Args:
        root: the workbench, or a part of it.
    """
    found = [fault for check in CHECKS for fault in root.evaluate(f"e => seen.{check}(e)")]
    figures = root.locator(".js-plotly-plot:visible")
    for i in range(figures.count()):
        found += figure_faults(page, figures.nth(i))
    return found
