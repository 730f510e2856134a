"""How large a learning rate may be: one short run in which it grows at every step."""

import math
from collections.abc import Sequence
from dataclasses import replace

from ..errors import OcclabError
from ..frames import Frame
from .build import build_model
from .config import TrainConfig
from .data import Batches
from .loop import NotFiniteError, Step, make_fabric, training_steps


def learning_rate_range_test(
    config: TrainConfig, frames: Sequence[Frame], *, low: float = 1e-6, high: float = 1.0, steps: int = 100
) -> list[Step]:
    """Train with a learning rate that grows exponentially from ``low`` to ``high`` (Smith 2015, arXiv 1506.01186).

    It ends early after the step whose loss is above 4 times the lowest so far, or before one that is not finite. Where the
    loss falls steepest a rate is good; where it rises again it is too large. Each step's ``learning_rate`` is the rate its
    update was made with, so its effect shows in the next step's loss. The configuration's own rate and schedule are not used.

    Raises:
        OcclabError: a range or number of steps that is no range; a loss that is not finite at the first step.
    """
    if not (0 < low < high < math.inf and type(steps) is int and steps >= 2):
        raise OcclabError(f"a range test needs 0 < low < high and at least 2 steps, got {low}, {high} and {steps} steps")
    config = replace(config, steps=steps, schedule="constant", warmup_steps=0)  # the rate is given below
    fabric = make_fabric(config)
    batches = Batches(frames, config, fabric.device)
    model = build_model(config, batches).to(fabric.device)
    growing = training_steps(
        model, batches, config, fabric=fabric, rate=lambda number: low * (high / low) ** (number / (steps - 1))
    )
    made: list[Step] = []
    try:
        for step in growing:
            made.append(step)
            if step.loss > 4 * min(s.loss for s in made):
                break
    except NotFiniteError:
        if not made:
            raise
    return made
