"""Training logs of other people, read: mmcv, mmengine, Lightning, TensorBoard, and occlab's own."""

from .folder import find_logs
from .log import Curve, LogSettings, TrainingLog
from .read import read_log

__all__ = ["Curve", "LogSettings", "TrainingLog", "find_logs", "read_log"]
