"""How far the output can go: push the last shift up and down, and see which probabilities come out.

A network that ends in a bare convolution answers to its bias: far enough down, every probability is near 0. Behind a
ReLU nothing goes under 1/2, however hard the push; and a bias in front of BatchNorm is subtracted again by it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import OcclabError
from .flow import calls, kind_of, scratch

PUSHES = (-20, -5, 0, 5, 20)
UNMOVED = 1e-3
"""Change of the mean probability below which a push did nothing: rounding in BatchNorm, and no more."""


@dataclass(frozen=True)
class Push:
    """What came out after a shift was moved."""

    push: float
    """Added to the shift, in logits where nothing stands behind it."""
    lowest: float
    highest: float
    mean: float
    """Probabilities, over all cells."""


@dataclass(frozen=True)
class OutputReach:
    """What a model's output answers to."""

    layer: str
    """The last layer with a bias: what stands behind it decides how far the output goes."""
    pushes: tuple[Push, ...]
    convolution: str | None
    """The last convolution or linear layer with a bias; None where there is none."""
    convolution_pushes: tuple[Push, ...]
    share_zero: float
    """Share of the logits, without a push, that are exactly 0: p = 1/2 to the last bit, and no gradient behind a ReLU."""

    @property
    def lowest(self) -> float:
        """The lowest probability that any push reached."""
        return min(p.lowest for p in self.pushes)

    @property
    def highest(self) -> float:
        return max(p.highest for p in self.pushes)

    @property
    def convolution_matters(self) -> bool:
        """Does the last convolution's bias move the output at all? Not where BatchNorm stands behind it."""
        means = [p.mean for p in self.convolution_pushes]
        return bool(means) and max(means) - min(means) > UNMOVED


def output_reach(model: nn.Module, inputs: Tensor, *, pushes: Sequence[float] = PUSHES) -> OutputReach:
    """Push the shift of the model's last layer that has one, and the bias of its last convolution.

    On copies in training mode, where BatchNorm goes by the batch at hand: the model is left as it was.

    Args:
        model: returns logits; probabilities are their sigmoid.
        pushes: added to every channel's bias, one at a time.

    Raises:
        OcclabError: no push, no layer with a bias, or an output that is not a tensor of finite numbers.
    """
    pushes = tuple(float(push) for push in pushes)
    if not pushes or not torch.tensor(pushes).isfinite().all():
        raise OcclabError(f"output_reach expects at least one push, all finite, got {list(pushes)}")
    biased: dict[str, nn.Module] = {}  # by name, in the order of their last call

    def look(name: str, module: nn.Module, output: Any) -> None:
        if isinstance(getattr(module, "bias", None), nn.Parameter):
            name = name.partition(" (call")[0]
            biased.pop(name, None)
            biased[name] = module

    with scratch(model) as twin, torch.no_grad():
        logits = _logits(calls(twin, inputs, look))
        if not biased:
            raise OcclabError(f"output_reach expects a model with a bias to push, got none in {type(model).__name__}")
        share_zero = float((logits == 0).float().mean())
    layer = list(biased)[-1]
    convolution = next((name for name in reversed(biased) if kind_of(biased[name]) == "convolution"), None)
    reached = {name: tuple(_push(model, inputs, name, push) for push in pushes) for name in {layer, convolution} - {None}}
    return OutputReach(layer, reached[layer], convolution, reached.get(convolution, ()), share_zero)


def _push(model: nn.Module, inputs: Tensor, layer: str, push: float) -> Push:
    with scratch(model) as twin, torch.no_grad():
        modules = dict(twin.named_modules())
        modules.get(layer, twin).bias.add_(push)  # a model that is one layer alone has no name
        p = torch.sigmoid(_logits(twin(inputs.detach().clone())).float())
    return Push(push, float(p.min()), float(p.max()), float(p.mean()))


def _logits(output: Any) -> Tensor:
    if not isinstance(output, Tensor) or not bool(output.isfinite().all()):
        got = "numbers that are not finite" if isinstance(output, Tensor) else type(output).__name__
        raise OcclabError(f"output_reach expects a model that returns one tensor of finite logits, got {got}")
    return output
