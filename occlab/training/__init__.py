"""Training: one loop, its configuration, and runs as folders."""

from .augmentation import Movement
from .build import build_model
from .config import TrainConfig, read_config
from .data import Batch, Batches, split_frames
from .evaluate import evaluate, iou_by_height
from .loop import Step, batch_statistics, fast_precision, make_fabric, predict, reestimate_statistics, training_steps
from .operated import train_operated
from .presets import PRESETS, preset
from .range_test import learning_rate_range_test
from .run import Run, load_run, recorded_runs, run_hash, train
from .summary import run_ladder, settled

__all__ = [
    "PRESETS",
    "Batch",
    "Batches",
    "Movement",
    "Run",
    "Step",
    "TrainConfig",
    "batch_statistics",
    "build_model",
    "evaluate",
    "fast_precision",
    "iou_by_height",
    "learning_rate_range_test",
    "load_run",
    "make_fabric",
    "predict",
    "preset",
    "read_config",
    "recorded_runs",
    "reestimate_statistics",
    "run_hash",
    "run_ladder",
    "settled",
    "split_frames",
    "train",
    "train_operated",
    "training_steps",
]
