"""Ablation: which trainings to compare, and what they say."""

from .both_heads import loss_curves, on_both_heads, score_rows, score_table
from .changes import setting_names
from .correction import corrected, holm
from .design_file import Design, parse_design, read_design
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
from .engines import run_design
from .recorded import recorded_about, recorded_table
from .results import compare_arms, effects_of, read_table, summary_of_arms, write_table
from .rows import COLUMNS, Row
from .scorecard import Claim, scorecard
from .statistics import Comparison, compare, seeds_needed
from .table import by_arm

__all__ = [
    "COLUMNS",
    "Arm",
    "Claim",
    "Comparison",
    "Design",
    "Effect",
    "Row",
    "apply",
    "by_arm",
    "coded",
    "compare",
    "compare_arms",
    "corrected",
    "effects",
    "effects_of",
    "for_each",
    "fractional_factorial",
    "full_factorial",
    "holm",
    "ladder",
    "leave_one_out",
    "loss_curves",
    "on_both_heads",
    "one_change",
    "parse_design",
    "read_design",
    "read_table",
    "recorded_about",
    "recorded_table",
    "run_design",
    "score_rows",
    "score_table",
    "scorecard",
    "seeds_needed",
    "setting_names",
    "summary_of_arms",
    "write_table",
]
