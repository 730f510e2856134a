"""Checkpoints in safetensors: weights, buffers and optimiser state, and nothing that could run code."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import OcclabError
from ..files import write_atomically


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors of any shape and device, by name, to a safetensors file.

    Raises:
        OcclabError: the file cannot be written.
    """
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = save(contiguous, metadata)
    write_atomically(path, lambda partial: partial.write_bytes(content))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises:
        OcclabError: missing, truncated or not a safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise OcclabError(f"{path}: expected a whole safetensors file ({error})") from error


def save_checkpoint(path: Path, model: nn.Module, optimizer: Optimizer, step: int) -> None:
    """Weights, buffers and optimiser state after ``step`` updates. Random numbers need no state: each step has its own
    stream, see :func:`occlab.training.data.stream`."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{name}": torch.as_tensor(value) for name, value in state.items()}
    save_tensors(path, tensors, {"step": str(step)})


def load_checkpoint(path: Path, model: nn.Module, optimizer: Optimizer | None = None) -> int:
    """Restore what :func:`save_checkpoint` wrote; returns the number of updates made.

    Raises:
        OcclabError: an unreadable file, or one of another network.
    """
    tensors, metadata = load_tensors(path)
    try:
        step = int(metadata["step"])
        model.load_state_dict(
            {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
        )
        if optimizer is not None:
            states: dict[int, dict[str, Tensor]] = {}
            for name, value in tensors.items():
                if name.startswith("optimizer."):
                    _, i, key = name.split(".", 2)
                    states.setdefault(int(i), {})[key] = value
            optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    except (KeyError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise OcclabError(f"{path}: expected a checkpoint of this network ({reason})") from error
    return step
