"""What a training run is, as plain data: everything that decides its result, and nothing else."""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from ..errors import OcclabError
from ..grid import VoxelGrid
from ..losses import OccupancyLoss
from ..models import UNetConfig
from .checks import checked


@dataclass(frozen=True)
class TrainConfig:
    """The defaults are the training as it stood."""

    model: UNetConfig = field(default_factory=UNetConfig)
    grid: VoxelGrid = field(default_factory=VoxelGrid)
    loss: OccupancyLoss = field(default_factory=OccupancyLoss)
    targets: Literal["soft", "hard"] = "soft"
    """``soft``: 1 - exp(-0.3 n - 5 var). ``hard``: n > 0."""
    init: Literal["default", "kaiming", "xavier"] = "default"
    """Initial weights, see :func:`occlab.models.initialise`; ``default``: PyTorch's own."""
    zero_last: bool = False
    """Start the last convolution at 0, so that the input is not yet heard in the output."""
    output_prior: float | Literal["measured"] | None = None
    """Probability that the network is to predict everywhere before its first step, as in RetinaNet (arXiv 1708.02002);
    ``measured``: the mean training target over all valid cells. None: what the initial weights give."""
    prior_in: Literal["convolution", "norm"] = "convolution"
    """Where the output prior is set: in the last convolution's bias, or in that of the BatchNorm behind it, which
    subtracts the former away. Only the rectified head has such a BatchNorm."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """AdamW divides each gradient by its own running size; SGD follows the size of the gradient."""
    momentum: float = 0.9
    """SGD's; AdamW has its betas, 0.9 and 0.999."""
    adam_epsilon: float = 1e-8
    """What AdamW adds to the divisor: gradients far smaller than this move their weights less."""
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    """Decoupled in AdamW; with SGD a term of the gradient (L2)."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises linearly from a third of its value, as in BEVFormer's schedule."""
    schedule: Literal["constant", "cosine", "one-cycle"] = "constant"
    """After the warm-up. ``cosine``: down to 1/1000 of the learning rate at the last step, mmdetection3d's
    ``CosineAnnealing`` with ``min_lr_ratio=1e-3``. ``one-cycle``: PyTorch's ``OneCycleLR`` (Smith 2018, arXiv 1708.07120)
    with its defaults, but without its cycling of momentum, and the learning rate as its peak: from 1/25 of it up over 30 % of
    the steps, then down to 1/250,000."""
    layer_decay: float = 1.0
    """Layer-wise decay of the learning rate, as in BEiT (arXiv 2106.08254): the stage that lies n before the head learns
    at ``layer_decay ** n`` of the rate. Multiplies with ``lr_mult`` of ``custom_keys``."""
    clip_norm: float | None = 0.1
    """Gradients with a larger norm are scaled down to it; None: never."""
    custom_keys: dict[str, dict[str, float]] = field(default_factory=dict)
    """mmcv's ``paramwise_cfg.custom_keys``: part of a parameter's name -> ``lr_mult`` and ``decay_mult``; the longest
    key that matches wins."""
    steps: int = 600
    batch_size: int = 4
    flip: bool = False
    """Mirror whole frames, pseudo and LiDAR points together, along x and y at random."""
    quarter_turns: bool = False
    """Turn whole frames about z by 0, 90, 180 or 270 degrees at random."""
    rotation: float = 0.0
    """Turn whole frames about z by a random angle of up to this many degrees either way."""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    seed: int = 0
    """Seeds three separate streams: initial weights, order of the frames, augmentation."""
    snapshot_steps: tuple[int, ...] = ()
    """Steps after which the predicted volume of the first frame is kept."""

    def __post_init__(self) -> None:
        for name, value in checked(self).items():  # 1 and 1.0 are one setting, and one run
            object.__setattr__(self, name, value)


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as JSON-able data."""
    return json.loads(json.dumps(asdict(config)))


def from_dict(values: Any, where: str) -> TrainConfig:
    """The reverse of :func:`to_dict`.

    Args:
        where: the file the values came from, for the message.

    Raises:
        OcclabError: unknown keys, or values that do not fit.
    """
    return _build(TrainConfig, values, where)


_NESTED = {"model": UNetConfig, "grid": VoxelGrid, "loss": OccupancyLoss}


def _build(kind: type, values: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise OcclabError(f"{where}: expected an object with the fields of {kind.__name__}, got {type(values).__name__}")
    known = {f.name for f in fields(kind)}
    unknown = sorted(set(values) - known)
    if unknown:
        expected = ", ".join(sorted(known))
        raise OcclabError(f"{where}: unknown keys {', '.join(unknown)} in {kind.__name__}; expected some of {expected}")
    arguments = {}
    for name, value in values.items():
        if name in _NESTED and kind is TrainConfig:
            value = _build(_NESTED[name], value, where)
        arguments[name] = tuple(value) if isinstance(value, list) else value
    try:
        return kind(**arguments)
    except OcclabError as error:
        raise OcclabError(f"{where}: {error}") from error
    except (TypeError, ValueError) as error:
        raise OcclabError(f"{where}: {kind.__name__} does not fit: {error}") from error


def read_config(path: Path) -> TrainConfig:
    """A configuration from a JSON file: an object of TrainConfig's fields, or a run's config.json.

    Raises:
        OcclabError: not JSON, unknown keys, values that do not fit.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OcclabError(f"{path}: expected a configuration as JSON ({error})") from error
    return from_dict(values.get("config", values) if isinstance(values, dict) else values, str(path))
