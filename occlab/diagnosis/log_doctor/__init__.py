"""The doctor on a log."""

from .doctor import diagnose_log

__all__ = ["diagnose_log"]
