"""What only the browser knows, such as whether its page is dark."""

from pathlib import Path

import anywidget
import traitlets


class Page(anywidget.AnyWidget):
    """Shows nothing; a script in the page keeps its traits up to date."""

    _esm = Path(__file__).parent / "page.js"
    dark = traitlets.Bool(False).tag(sync=True)
    """Whether the page's background is darker than middle grey."""
