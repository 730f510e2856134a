"""Training a network that no configuration describes: one with a module taken out, or another put in its place."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from ..files import write_atomically
from ..frames import Frame
from ..settings import home
from .checkpoint import load_checkpoint, save_tensors
from .config import TrainConfig
from .data import Batches
from .loop import Step, make_fabric, training_steps
from .run import _to_row, read_steps, run_hash


def train_operated(
    model: nn.Module, config: TrainConfig, frames: Sequence[Frame], *, name: str, root: Path | None = None
) -> list[Step]:
    """Train a network in place, or give it the weights that the same training gave it before.

    The training is found again by its configuration, frames and code, by the network's modules and by their weights at the
    start. Only a finished one is kept.

    Args:
        model: the network; its own settings count, those of ``config.model`` do not.
        name: first part of the folder's name.
        root: where the folder lies; by default ``settings.home() / "operated"``.

    Returns:
        every step, as :func:`training_steps` yields them.
    """
    digest = hashlib.sha256(f"{run_hash(config, frames)} {model!r}".encode())
    for key, value in model.state_dict().items():
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    folder = (root or home() / "operated") / f"{name}-{digest.hexdigest()[:12]}"
    weights, log = folder / "checkpoint.safetensors", folder / "scalars.json"
    if weights.exists():  # written last
        load_checkpoint(weights, model)
        return read_steps(log)
    steps = list(training_steps(model, Batches(frames, config, make_fabric(config).device), config))
    folder.mkdir(parents=True, exist_ok=True)
    rows = "".join(json.dumps(_to_row(step)) + "\n" for step in steps)
    write_atomically(log, lambda partial: partial.write_text(rows, encoding="utf-8"))
    tensors = {f"model.{key}": value for key, value in model.state_dict().items()}
    save_tensors(weights, tensors, {"step": str(config.steps)})
    return steps
