"""What a training run is, as plain data: everything that decides its result, and nothing else."""

import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from ..errors import OcclabError
from ..grid import VoxelGrid
from ..losses import OccupancyLoss
from ..models import UNetConfig
from ..settings import Profile


@dataclass(frozen=True)
class TrainConfig:
    """The defaults are the training as it stood."""

    model: UNetConfig = field(default_factory=UNetConfig)
    grid: VoxelGrid = field(default_factory=VoxelGrid)
    loss: OccupancyLoss = field(default_factory=OccupancyLoss)
    targets: Literal["soft", "hard"] = "soft"
    """``soft``: 1 - exp(-0.3 n - 5 var). ``hard``: n > 0."""
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    warmup_steps: int = 0
    """Steps over which the learning rate rises linearly from a third of its value, as in BEVFormer's schedule."""
    clip_norm: float | None = 0.1
    """Gradients with a larger norm are scaled down to it; None: never."""
    custom_keys: dict[str, dict[str, float]] = field(default_factory=dict)
    """mmcv's ``paramwise_cfg.custom_keys``: part of a parameter's name -> ``lr_mult`` and ``decay_mult``; the longest
    key that matches wins."""
    steps: int = 600
    batch_size: int = 4
    flip: bool = False
    """Mirror whole frames, pseudo and LiDAR points together, along x and y at random."""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    seed: int = 0
    """Seeds three separate streams: initial weights, order of the frames, augmentation."""
    snapshot_steps: tuple[int, ...] = ()
    """Steps after which the predicted volume of the first frame is kept."""

    def __post_init__(self) -> None:
        for name, low in (("steps", 1), ("batch_size", 1), ("warmup_steps", 0), ("seed", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < low:
                raise OcclabError(f"{name} must be a whole number of at least {low}, got {value!r}")
        for name in ("learning_rate", "weight_decay", "clip_norm"):
            value = getattr(self, name)
            if name == "clip_norm" and value is None:
                continue
            if type(value) not in (int, float) or not 0 <= value < math.inf or (value == 0 and name != "weight_decay"):
                bound = "of at least 0" if name == "weight_decay" else "above 0"
                raise OcclabError(f"{name} must be a finite number {bound}, got {value!r}")
            object.__setattr__(self, name, float(value))  # 1 and 1.0 are one setting, and one run
        if not all(type(step) is int and step >= 0 for step in self.snapshot_steps):
            raise OcclabError(f"snapshot_steps must be whole numbers of at least 0, got {self.snapshot_steps!r}")
        object.__setattr__(self, "snapshot_steps", tuple(sorted(self.snapshot_steps)))
        if self.targets not in ("soft", "hard"):
            raise OcclabError(f"targets must be 'soft' or 'hard', got {self.targets!r}")
        if self.precision not in ("32-true", "bf16-mixed"):
            raise OcclabError(f"precision must be '32-true' or 'bf16-mixed', got {self.precision!r}")
        if not isinstance(self.custom_keys, dict):
            raise OcclabError(f"custom_keys must map names to lr_mult and decay_mult, got {self.custom_keys!r}")
        for key, chosen in self.custom_keys.items():
            known = isinstance(chosen, dict) and not set(chosen) - {"lr_mult", "decay_mult"}
            if not (known and all(isinstance(x, int | float) and 0 <= x < math.inf for x in chosen.values())):
                raise OcclabError(
                    f"custom_keys[{key!r}] may hold lr_mult and decay_mult, numbers of at least 0, got {chosen!r}"
                )
        if self.model.out_channels != self.grid.shape[0]:
            raise OcclabError(f"model.out_channels is {self.model.out_channels}, but the grid has {self.grid.shape[0]} heights")


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


def preset(name: str, profile: Profile, **changes: Any) -> TrainConfig:
    """A named configuration at the size of a profile.

    ``as-it-stood`` is the training that stalled; ``repaired`` differs in two things: bare logits, and a learning rate of 1e-3.

    Args:
        changes: fields of TrainConfig to replace; ``head`` is short for the model's head.
    """
    presets = {
        "as-it-stood": {},
        "repaired": {"head": "logits", "learning_rate": 1e-3},
    }
    if name not in presets:
        raise OcclabError(f"unknown preset {name!r}; expected one of {', '.join(presets)}")
    values = presets[name] | changes
    head = values.pop("head", "rectified")
    unknown = sorted(set(values) - {f.name for f in fields(TrainConfig)})
    if unknown:
        expected = ", ".join(f.name for f in fields(TrainConfig))
        raise OcclabError(f"unknown settings {', '.join(unknown)}; TrainConfig has {expected}")
    nz = profile.grid.shape[0]
    size = {
        "model": UNetConfig(in_channels=8 * nz, out_channels=nz, width=profile.width, head=head),
        "grid": profile.grid,
        "steps": profile.steps,
        "batch_size": profile.batch_size,
    }
    return TrainConfig(**(size | values))


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
