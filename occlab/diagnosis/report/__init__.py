"""A report for people and machines: terminal, notebook, SARIF."""

from .cards import as_html
from .rendering import as_text, print_report
from .sarif import as_sarif

__all__ = ["as_html", "as_sarif", "as_text", "print_report"]
