"""Training: one loop, its configuration, and runs as folders."""

from .config import TrainConfig, preset, read_config
from .data import Batch, Batches, split_frames
from .loop import Step, batch_statistics, fast_precision, make_fabric, predict, training_steps
from .run import Run, load_run, recorded_runs, run_hash, train
from .summary import run_ladder, settled

__all__ = [
    "Batch",
    "Batches",
    "Run",
    "Step",
    "TrainConfig",
    "batch_statistics",
    "fast_precision",
    "load_run",
    "make_fabric",
    "predict",
    "preset",
    "read_config",
    "recorded_runs",
    "run_hash",
    "run_ladder",
    "settled",
    "split_frames",
    "train",
    "training_steps",
]
