"""The one training loop: a generator of steps. A notebook plots them, a command line shows a bar over them, a test
takes three of them."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import update_bn

from ..errors import OcclabError
from ..metrics import iou
from .config import TrainConfig
from .data import Batch, Batches
from .optimizer import learning_rate, make_optimizer

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class NotFiniteError(OcclabError):
    """A loss or gradient became NaN or infinite."""


@dataclass(frozen=True)
class Step:
    """One step of training, measured."""

    step: int
    """From 1: the number of updates made, this one included."""
    loss: float
    terms: dict[str, float]
    """The loss's terms, unweighted."""
    grad_norm: float
    """Norm of the gradient of all parameters before clipping."""
    clip_coefficient: float
    """What clipping multiplied the gradient by; 1 where it did nothing."""
    update_ratio: float
    """Norm of the change of all parameters over the norm of the parameters; about 1e-3 is usual."""
    learning_rate: float
    iou: float
    """Of this batch, at p > 1/2."""
    seconds: float


def training_steps(
    model: nn.Module,
    batches: Batches,
    config: TrainConfig,
    *,
    optimizer: Optimizer | None = None,
    start: int = 0,
    fabric: "Fabric | None" = None,
    rate: Callable[[int], float] | None = None,
) -> Iterator[Step]:
    """Train, one step at a time, for as long as the caller asks for the next.

    Args:
        model: returns logits (B, Z, Y, X) from features (B, C, Y, X). Trained in place.
        optimizer: to go on with; by default a new one from the configuration.
        start: number of updates made already; the run goes on to ``config.steps``.
        fabric: device and precision; by default :func:`make_fabric`.
        rate: the base learning rate of a step, from its number; by default the configuration's schedule.

    Raises:
        NotFiniteError: a loss or gradient that is NaN or infinite, at the step where it appears.
    """
    fabric = fabric or make_fabric(config)
    optimizer = optimizer or make_optimizer(model, config)
    model.to(memory_format=torch.channels_last)
    wrapped, wrapped_optimizer = fabric.setup(model, optimizer)
    loss_fn, parameters = config.loss, [p for p in model.parameters() if p.requires_grad]
    for number in range(start, config.steps):
        began = time.perf_counter()
        wrapped.train()
        batch = batches[number]
        base = rate(number) if rate else learning_rate(config, number)
        for group in optimizer.param_groups:
            group["lr"] = base * group.get("lr_mult", 1.0)
        logits = wrapped(batch.features.to(memory_format=torch.channels_last))
        terms = loss_fn.terms(logits, batch.target, batch.mask)
        loss = loss_fn.weigh(terms)
        fabric.backward(loss)
        total_norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        norm = float(total_norm)
        value = float(loss.detach())
        if not (math.isfinite(norm) and math.isfinite(value)):
            raise NotFiniteError(f"training stopped at step {number + 1}: the loss is {value} and the gradient norm {norm}")
        clip = 1.0
        if config.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, config.clip_norm, total_norm)
            clip = min(1.0, config.clip_norm / (norm + 1e-6))
        before = [p.detach().clone() for p in parameters]
        wrapped_optimizer.step()
        wrapped_optimizer.zero_grad()
        with torch.no_grad():
            change = float(torch.nn.utils.get_total_norm(torch._foreach_sub([p.detach() for p in parameters], before)))
            size = float(torch.nn.utils.get_total_norm(before))
            hit = iou(logits > 0, batch.target, batch.mask)
        yield Step(
            step=number + 1,
            loss=value,
            terms={name: float(term.detach()) for name, term in terms.items()},
            grad_norm=norm,
            clip_coefficient=clip,
            update_ratio=change / size if size else 0.0,
            learning_rate=base,
            iou=hit,
            seconds=time.perf_counter() - began,
        )


def make_fabric(config: TrainConfig) -> "Fabric":
    """Lightning Fabric on one device: CUDA where there is one, else the processor; sums here need float64, which MPS lacks."""
    from lightning_fabric import Fabric  # three seconds: not for those who only read runs

    log = logging.getLogger("lightning_fabric")
    level = log.level
    log.setLevel(logging.WARNING)  # it announces the precision at every construction
    try:
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
        return Fabric(accelerator=accelerator, devices=1, precision=config.precision)
    finally:
        log.setLevel(level)


def fast_precision() -> str:
    """bf16 autocast where the hardware computes in it (CUDA, or a processor with AVX512-BF16 or AMX), else float32."""
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    # No public name for this yet; without the probe bf16 would be emulated, slower than float32.
    probes = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return "bf16-mixed" if any(probe and probe() for probe in probes) else "32-true"


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """Let BatchNorm use the statistics of the batch at hand, leaving its running averages as they are.

    With momentum 0.01 the running averages trail the weights by a hundred steps, and an evaluation by them says more
    about the trail than about the weights.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    kept = [(m.training, m.track_running_stats) for m in norms]
    try:
        for m in norms:
            m.training, m.track_running_stats = True, False
        yield
    finally:
        for m, (training, tracked) in zip(norms, kept, strict=True):
            m.training, m.track_running_stats = training, tracked


@contextmanager
def reestimate_statistics(model: nn.Module, batches: Batches, fabric: "Fabric") -> Iterator[None]:
    """Let BatchNorm's running averages be those of the weights as they are: the plain mean, over all training frames, of
    each frame's statistics ("precise BatchNorm", Wu & Johnson 2021, arXiv 2105.07576). The old averages come back after.

    Args:
        batches: the frames that were trained on.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    kept = [(m.momentum, {name: buffer.clone() for name, buffer in m.named_buffers()}) for m in norms]
    was_training = model.training
    try:
        with fabric.autocast():
            update_bn((batch.features.to(memory_format=torch.channels_last) for batch in batches), model)
        yield
    finally:
        model.train(was_training)
        for m, (momentum, buffers) in zip(norms, kept, strict=True):
            m.momentum = momentum
            for name, value in buffers.items():
                getattr(m, name).copy_(value)


@torch.no_grad()
def predict(model: nn.Module, batch: Batch, fabric: "Fabric", *, running_statistics: bool = True) -> Tensor:
    """Probabilities (B, Z, Y, X) float32 of a batch. The model's mode is left as it was."""
    was_training = model.training
    model.eval()
    try:
        with fabric.autocast():
            features = batch.features.to(memory_format=torch.channels_last)
            if running_statistics:
                logits = model(features)
            else:
                with batch_statistics(model):
                    logits = model(features)
    finally:
        model.train(was_training)
    return torch.sigmoid(logits.float())
