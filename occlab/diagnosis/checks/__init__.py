"""The checks on a model, each a function of a :class:`~occlab.diagnosis.subject.Subject` that returns one finding."""

from collections.abc import Callable

from ..finding import Finding
from ..subject import Subject
from . import alignment, classes, data, loss, output, probe, scale, step

Check = Callable[[Subject], Finding]

_FILES = (data, classes, scale, alignment, output, loss, step, probe)
STRUCTURE: tuple[Check, ...] = tuple(check for file in _FILES for check in file.STRUCTURE)
"""Need no training step. Where one of them fails, the others are not run: they would only repeat it."""
PROBES: tuple[Check, ...] = tuple(check for file in _FILES for check in file.PROBES)
"""Train copies for some steps on the batch."""
