"""What a stalled loss says: the doctor, on a model, in a loop and on a log. Works on anybody's targets and model; knows nothing
of occlab's training loop."""

from .doctor import diagnose
from .finding import CAUSES, Experiment, Finding, Report, Trial
from .floors import HALF, Floor, Ladder, ladder
from .flow import LayerGradient, LayerSignal, gradient_flow, signal_flow
from .log_doctor import diagnose_log
from .logs import TrainingLog, find_logs, read_log
from .output import OutputReach, Push, output_reach
from .watch import watch

__all__ = [
    "CAUSES",
    "HALF",
    "Experiment",
    "Finding",
    "Floor",
    "Ladder",
    "LayerGradient",
    "LayerSignal",
    "OutputReach",
    "Push",
    "Report",
    "TrainingLog",
    "Trial",
    "diagnose",
    "diagnose_log",
    "find_logs",
    "gradient_flow",
    "ladder",
    "output_reach",
    "read_log",
    "signal_flow",
    "watch",
]
