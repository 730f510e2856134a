"""Named configurations at the size of a profile.

A run's identity is its configuration, wherever that came from: the text of this file is no part of it.
"""

from dataclasses import fields
from typing import Any

from ..errors import OcclabError
from ..models import UNetConfig
from ..settings import Profile
from .config import TrainConfig

PRESETS = ("as-it-stood", "repaired", "recommended")


def preset(name: str, profile: Profile, **changes: Any) -> TrainConfig:
    """A named configuration at the size of a profile.

    - ``as-it-stood``: the training that stalled.
    - ``repaired``: differs in two things, bare logits and a learning rate of 1e-3.
    - ``recommended``: what the course arrives at, for ``profile.for_recipe()`` with its frames and steps. Bare logits that
      start at the measured rate; hard targets; 3e-3 with warm-up and cosine, no clipping; a stem and a head wide enough for
      32 heights, a third stage, residual blocks, concatenation at half resolution to pay for them; BatchNorm momentum 0.1;
      flips.

    Args:
        changes: fields of TrainConfig to replace; ``head`` is short for the model's head.
    """
    presets: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # of the model, of the training
        "as-it-stood": ({}, {}),
        "repaired": ({"head": "logits"}, {"learning_rate": 1e-3}),
        "recommended": (
            {
                "head": "logits",
                "stem": 256,
                "channels": (256, 512, 1024),
                "head_channels": 256,
                "block": "residual",
                "skip": "half",
                "bn_momentum": 0.1,
            },
            {
                "targets": "hard",
                "output_prior": "measured",
                "learning_rate": 3e-3,
                "warmup_steps": profile.steps // 10,
                "schedule": "cosine",
                "clip_norm": None,
                "flip": True,
            },
        ),
    }
    if name not in PRESETS:
        raise OcclabError(f"unknown preset {name!r}; expected one of {', '.join(PRESETS)}")
    of_model, of_training = presets[name]
    values = of_training | changes
    head = values.pop("head", None)
    unknown = sorted(set(values) - {f.name for f in fields(TrainConfig)})
    if unknown:
        expected = ", ".join(f.name for f in fields(TrainConfig))
        raise OcclabError(f"unknown settings {', '.join(unknown)}; TrainConfig has {expected}")
    nz = profile.grid.shape[0]
    model = {"in_channels": 8 * nz, "out_channels": nz, "width": profile.width} | of_model
    size = {
        "model": UNetConfig(**(model | ({} if head is None else {"head": head}))),
        "grid": profile.grid,
        "steps": profile.steps,
        "batch_size": profile.batch_size,
    }
    return TrainConfig(**(size | values))
