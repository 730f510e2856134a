"""Ablation: which trainings to compare, and what they say."""

from .changes import setting_names
from .correction import corrected, holm
from .design_file import Design, read_design
from .designs import (
    Arm,
    apply,
    for_each,
    fractional_factorial,
    full_factorial,
    ladder,
    leave_one_out,
    one_change,
)
from .effects import Effect, coded, effects
from .statistics import Comparison, compare, seeds_needed
from .table import by_arm

__all__ = [
    "Arm",
    "Comparison",
    "Design",
    "Effect",
    "apply",
    "by_arm",
    "coded",
    "compare",
    "corrected",
    "effects",
    "for_each",
    "fractional_factorial",
    "full_factorial",
    "holm",
    "ladder",
    "leave_one_out",
    "one_change",
    "read_design",
    "seeds_needed",
    "setting_names",
]
