"""What only the browser knows, such as whether its page is dark."""

from pathlib import Path

import anywidget
import traitlets


class Page(anywidget.AnyWidget):
    """Shows nothing; its script keeps the traits up to date, and the keys of the workbench's controls with them."""

    _esm = Path(__file__).parent / "page.js"
    dark = traitlets.Bool(False).tag(sync=True)
    """Whether the page's background is darker than middle grey."""
