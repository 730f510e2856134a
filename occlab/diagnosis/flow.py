"""What reaches each layer: the signal going forward, the gradient coming back.

Both look at a copy in training mode, where BatchNorm goes by the batch at hand, so the model that was given keeps its
weights, buffers, modes and gradients, and the random numbers drawn after a look are those drawn without it. What the
network does outside of modules (``torch.nn.functional``) is not seen.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import OcclabError
from .copying import duplicate

Kind = Literal["convolution", "norm", "activation"]

_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)  # _NormBase: BatchNorm and InstanceNorm


@dataclass(frozen=True)
class LayerSignal:
    """The output of one layer."""

    name: str
    """As in ``model.named_modules()``; a module that is called again gets a number."""
    kind: Kind
    """Linear layers count as convolutions."""
    mean: float
    std: float
    """Over all elements of the output: frames, channels and places."""
    share_zero: float
    """Share of the elements that are exactly 0; behind a ReLU, those that it cut."""


@dataclass(frozen=True)
class LayerGradient:
    """The gradient of one layer's weight."""

    name: str
    gradient_norm: float
    weight_norm: float
    ratio: float
    """Gradient norm over weight norm: how fast a plain gradient step of rate 1 would turn the layer over."""
    share_zero: float
    """Share of the gradient's elements that are exactly 0; 1 where no gradient arrives."""


def signal_flow(model: nn.Module, inputs: Tensor, *, activations_only: bool = False) -> list[LayerSignal]:
    """Mean, spread and share of exact zeros of each layer's output, in the order of the forward pass.

    Layers are convolutions (linear layers too), norms and activations. Each is measured as it leaves its module, before
    a ReLU in place overwrites it.

    Shape:
        inputs: whatever ``model(inputs)`` takes, e.g. (B, C, Y, X).

    Raises:
        OcclabError: no such layer was called.
    """
    found: list[LayerSignal] = []

    def look(name: str, module: nn.Module, output: Any) -> None:
        kind = kind_of(module)
        if kind is None or (activations_only and kind != "activation") or not isinstance(output, Tensor):
            return
        values = output.detach().float()
        std, mean = torch.std_mean(values, correction=0)
        found.append(LayerSignal(name, kind, float(mean), float(std), float((values == 0).float().mean())))

    with scratch(model) as twin, torch.no_grad():
        calls(twin, inputs, look)
    if not found:
        wanted = "an activation" if activations_only else "a convolution, norm or activation"
        raise OcclabError(f"signal_flow expects a model that calls {wanted} as a module, got {type(model).__name__}")
    return found


def gradient_flow(model: nn.Module, inputs: Tensor, target: Any, loss: Callable[[Tensor, Any], Tensor]) -> list[LayerGradient]:
    """The gradient that reaches the weight of each convolution or linear layer, in the order of the forward pass.

    Args:
        loss: called as ``loss(output, target)``, returns one number.

    Raises:
        OcclabError: a loss that is not one finite number or does not depend on the weights, or no layer with a weight.
    """
    layers: dict[str, Tensor] = {}

    def look(name: str, module: nn.Module, output: Any) -> None:
        weight = getattr(module, "weight", None)
        if kind_of(module) == "convolution" and weight.requires_grad and not any(weight is w for w in layers.values()):
            layers[name] = weight

    with scratch(model) as twin, torch.enable_grad():
        value = loss(calls(twin, inputs, look), target)
        if not layers:
            raise OcclabError(
                f"gradient_flow expects a model with trainable convolutions or linear layers, got {type(model).__name__}"
            )
        if not (isinstance(value, Tensor) and value.numel() == 1 and value.requires_grad and bool(value.isfinite())):
            got = f"{tuple(value.shape)} {value.detach().flatten()[:1].tolist()}" if isinstance(value, Tensor) else repr(value)
            raise OcclabError(f"gradient_flow expects one finite number that depends on the weights from loss, got {got}")
        gradients = torch.autograd.grad(value.reshape(()), list(layers.values()), allow_unused=True)
    return [_gradient(name, w.detach(), g) for (name, w), g in zip(layers.items(), gradients, strict=True)]


def kind_of(module: nn.Module) -> Kind | None:
    """What a module is, if it is one of the three."""
    if isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
        return "convolution"
    if isinstance(module, _NORMS):
        return "norm"
    in_torch = type(module).__module__ == nn.ReLU.__module__  # every activation of torch lives in this one file
    return "activation" if in_torch and not isinstance(module, nn.MultiheadAttention) else None


@contextmanager
def scratch(model: nn.Module) -> Iterator[nn.Module]:
    """A copy of a model in training mode to do anything with; random numbers drawn meanwhile are given back."""
    places = {p.device for p in [*model.parameters(), *model.buffers()] if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=places):
        yield duplicate(model)[0].train()


def calls(model: nn.Module, inputs: Tensor, look: Callable[[str, nn.Module, Any], None]) -> Tensor:
    """The output of a model, telling ``look(name, module, output)`` of each module with no modules inside, as it returns.

    A name that comes again is followed by the number of the call.
    """
    seen: dict[str, int] = {}

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def told(module: nn.Module, _: Any, output: Any) -> None:
            seen[name] = seen.get(name, 0) + 1
            look(name if seen[name] == 1 else f"{name} (call {seen[name]})", module, output)

        return told

    leaves = [(name, m) for name, m in model.named_modules() if not any(True for _ in m.children())]
    handles = [m.register_forward_hook(hook(name or type(m).__name__)) for name, m in leaves]
    try:
        return model(inputs.detach().clone())  # a first layer may work in place
    finally:
        for handle in handles:
            handle.remove()


def _gradient(name: str, weight: Tensor, gradient: Tensor | None) -> LayerGradient:
    gradient = torch.zeros_like(weight) if gradient is None else gradient
    size, norm = float(weight.float().norm()), float(gradient.float().norm())
    ratio = norm / size if size else (float("inf") if norm else 0.0)
    return LayerGradient(name, norm, size, ratio, float((gradient == 0).float().mean()))
