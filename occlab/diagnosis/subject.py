"""The model under examination, with what is measured on it once and read by many checks.

Everything happens on copies. Legend: p is the probability that a cell is occupied; ``takes`` says whether the loss expects
that or its logit, found out by asking the loss.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import OcclabError
from .copying import clone, duplicate, first_line, foreign, gradients_kept, tensors

MARGIN = 1e-6
"""How far from 0 and 1 probabilities stay where a loss cannot take them exactly."""
NO_ROOM = 3e-5
"""Of the loss of p = 1/2, what the best constant may cost where one answer is right everywhere: it is searched to 1 - 6e-6."""
ERRORS = (RuntimeError, ValueError, IndexError, TypeError, AttributeError, AssertionError, OcclabError)
"""What a loss raises for what it does not take."""


@dataclass(frozen=True)
class Look:
    """One forward and backward pass in training mode, before any step."""

    output: Tensor
    """What the loss was given."""
    loss: float
    output_gradient: Tensor | None
    """dL / d output; None where the loss does not depend on it."""
    gradients: dict[str, Tensor | None]
    """By parameter name, of every parameter that asks for one; None where none arrives."""


@dataclass(frozen=True)
class Floors:
    """The loss of predictions that need no network, on this batch."""

    half: float
    """p = 1/2 everywhere."""
    best_constant: float
    best_p: float
    """The probability that, predicted everywhere, costs least."""
    perfect: float
    """p = target; of hard targets near 0, of soft ones not."""


@dataclass
class Subject:
    """A model, one batch and a loss."""

    model: nn.Module
    inputs: Any
    target: Tensor
    """Same shape as the output, in [0, 1]; or integer classes, without the output's dimension 1."""
    loss: Callable[[Any, Any], Any]
    optimizer: Optimizer | None = None
    forward: Callable[[nn.Module, Any], Any] | None = None
    mask: Tensor | None = None
    """Bool, broadcastable to the target: True where a cell counts."""
    steps: int = 50
    clip_norm: float | None = None
    scheduler: Any = None

    # --- copies ---------------------------------------------------------------------------------------------------------

    def twin(self) -> nn.Module:
        """A copy of the model in training mode, to do anything with."""
        return self.copies()[0].train()

    def copies(self) -> tuple[nn.Module, Optimizer | None, Any]:
        """Model, optimiser and scheduler, copied together: the optimiser holds the parameters of the model's copy."""
        try:
            return duplicate(self.model, self.optimizer, self.scheduler)
        except Exception as error:
            why = first_line(error)
            raise OcclabError(f"{self.name}: expected a model that can be copied (copy.deepcopy): {why}") from error

    def run(self, model: nn.Module, inputs: Any = None) -> Tensor:
        """The model's output on the batch, or on other inputs of its kind."""
        inputs = clone(self.inputs if inputs is None else inputs)
        output = self.forward(model, inputs) if self.forward else model(inputs)
        if not isinstance(output, Tensor):
            got = type(output).__name__
            raise OcclabError(
                f"{self.name}: expected a model that returns one tensor, got {got}; name the tensor with forward="
            )
        return output

    def value(self, output: Tensor, target: Tensor | None = None) -> Tensor:
        """The loss of an output: one number, the sum where the loss returns terms by name."""
        value = self.loss(output, self.target if target is None else target)
        if isinstance(value, dict):
            value = sum(terms_of(value).values())
        if not isinstance(value, Tensor) or value.numel() != 1:
            got = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise OcclabError(f"expected a loss that returns one number for (output, target), got {got}")
        return value.reshape(())

    # --- what was given -------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return type(self.model).__name__

    @property
    def by_class(self) -> bool:
        """Are the targets integer classes, one output channel for each?"""
        return self._integer and self.target.dim() < self.output.dim() and self.output.shape[1] > 1

    @property
    def _integer(self) -> bool:
        return not self.target.is_floating_point() and self.target.dtype != torch.bool

    @cached_property
    def counted(self) -> Tensor:
        """Bool, shape of the target: the cells that count. What stands for "unknown" is left out."""
        whole = torch.ones_like(self.target, dtype=torch.bool)
        if self.mask is not None:
            whole = whole & self.mask.to(whole.device)
        if self._integer:
            return whole & (self.target >= 0) & (self.target != 255)
        if self.target.is_floating_point():  # -1 and 255 beside 0 and 1 mean "unknown" here too; beside 0 alone, occupied
            unknown = (self.target == -1) | (self.target == 255)
            known = self.target[~unknown]
            if bool((known > 0).any()) and bool((known <= 0.5).any()):
                return whole & ~unknown
        return whole

    @cached_property
    def rate(self) -> float:
        """Mean target of the cells that count."""
        return float(self.target.double()[self.counted].mean()) if bool(self.counted.any()) else math.nan

    @cached_property
    def takes(self) -> Literal["logits", "probabilities"]:
        """What the loss takes. A loss of probabilities is near its least where p is the (hard) target; one of logits is not,
        for there 0 and 1 are both lukewarm."""
        if self.by_class:
            return self._takes_of_classes
        hard = (self.target > 0.5).to(self.output.dtype).contiguous()
        if not bool(hard.any()):
            hard.view(-1)[:: max(1, hard.numel() // 10)] = 1.0
        with torch.no_grad():
            values = []
            for output in (hard, torch.full_like(hard, 0.5), (2 * hard - 1) * 20):
                try:
                    values.append(float(self.value(output.reshape(self.output.shape), hard.to(self.target.dtype))))
                except ERRORS:
                    values.append(math.nan)  # torch refuses -20 as a probability
        as_probability, half, as_logit = values
        if math.isnan(as_logit):
            return "probabilities"
        return "probabilities" if as_probability < 0.2 * half else "logits"

    @property
    def _takes_of_classes(self) -> Literal["logits", "probabilities"]:
        """Probabilities are what a softmax returned, and a loss of those is next to nothing where the right ones are given."""
        if not sums_to_one(self.output):
            return "logits"
        k = self.output.shape[1]
        right = F.one_hot(self.target.long().clamp(0, k - 1), k).movedim(-1, 1).to(self.output)
        with torch.no_grad():
            try:
                sure, even = (float(self.value(o)) for o in (0.999 * right + 0.001 / k, torch.full_like(right, 1 / k)))
            except ERRORS:
                return "logits"
        return "probabilities" if sure < 0.01 * even else "logits"

    def taken(self, logits: Tensor) -> Tensor:
        """Logits of classes, (B, K, ...), as the loss takes them."""
        return logits if self.takes == "logits" else torch.softmax(logits, 1)

    # --- measurements ---------------------------------------------------------------------------------------------------

    @cached_property
    def output(self) -> Tensor:
        """What the model returns in training mode; the loss is not asked."""
        with torch.no_grad():
            return self.run(self.twin()).detach()

    @cached_property
    def look(self) -> Look:
        """One forward and backward pass."""
        twin = self.twin()
        for p in twin.parameters():
            p.grad = None  # gradients are copied along
        with torch.enable_grad():
            output = self.run(twin)
            kept = output if output.requires_grad else output.detach().requires_grad_()
            try:
                value = self.value(kept)
            except (RuntimeError, ValueError, IndexError, TypeError) as error:
                shapes = f"output {tuple(output.shape)} and target {tuple(self.target.shape)} {self.target.dtype}"
                raise OcclabError(f"the loss does not take {shapes}: {first_line(error)}") from error
        named = {name: p for name, p in twin.named_parameters() if p.requires_grad}
        if not value.requires_grad:
            return Look(output.detach(), float(value), None, dict.fromkeys(named))
        kept.retain_grad()
        with gradients_kept(foreign(value, twin, kept)):
            value.backward()  # not autograd.grad, which checkpoints of the older kind refuse
        return Look(output.detach(), float(value.detach()), kept.grad, {name: p.grad for name, p in named.items()})

    def p(self, output: Tensor) -> Tensor:
        """Probabilities as the loss understands the output, float32 in the target's shape; of the classes, (B, K, ...)."""
        output = output.detach().float()
        if self.by_class:
            return torch.softmax(output, 1) if self.takes == "logits" else output
        return (torch.sigmoid(output) if self.takes == "logits" else output).reshape(self.target.shape)

    def of_probabilities(self, p: Tensor) -> float:
        """The loss of probabilities, whichever the loss takes. Shape of the target."""
        p, like = p.to(self.output), self.output.shape
        # Of logits, 40 is as good as certain and finite; of probabilities, some losses take the logarithm of 0.
        forms = [torch.logit(p).clamp(-40, 40)] if self.takes == "logits" else [p, p.clamp(MARGIN, 1 - MARGIN)]
        with torch.no_grad():
            values = (float(self.value(output.reshape(like))) for output in forms)
            return next((value for value in values if math.isfinite(value)), math.nan)

    def of_constant(self, p: float) -> float:
        """The loss where the same probability is predicted everywhere."""
        return self.of_probabilities(torch.full(self.target.shape, float(p), device=self.target.device))

    @cached_property
    def floors(self) -> Floors:
        """What no network costs; the best constant searched in the logit, for it is often below 1 %."""
        found = minimize_scalar(
            lambda x: self.of_constant(1 / (1 + math.exp(-x))), bounds=(-12, 12), method="bounded", options={"xatol": 0.02}
        )
        best_p = 1 / (1 + math.exp(-found.x))
        perfect = self.of_probabilities(self.target.float().masked_fill(~self.counted, 0))
        return Floors(self.of_constant(0.5), float(found.fun), best_p, perfect)

    def skill(self, loss: float) -> float:
        """Share of the best constant's loss that is saved, of what can be: 0 for a network that has learnt the base rate and no
        more, 1 at p = target (McFadden's pseudo-R2 over the soft targets' own floor).
        NaN where a constant is as good as perfect."""
        room = self.floors.best_constant - self.floors.perfect
        return (self.floors.best_constant - loss) / room if room > NO_ROOM * abs(self.floors.half) else math.nan

    @cached_property
    def own(self) -> "Probe":
        """``steps`` steps on this batch with the optimiser that was given (AdamW at 1e-3 where none was)."""
        model, optimizer, scheduler = self.copies()
        return self.train(model, optimizer or torch.optim.AdamW(trainable(model), lr=1e-3), scheduler, self.clip_norm)

    @cached_property
    def reference(self) -> "Probe":
        """The same with AdamW at 1e-3, no clipping, every parameter that asks for a gradient: what this network can do here."""
        model = self.twin()
        return self.train(model, torch.optim.AdamW(trainable(model), lr=1e-3), None, None)

    def from_base_rate(self, steps: int, rate: float) -> "Probe":
        """AdamW with the output shifted, in the logit, so that its mean starts at the best constant: what is learnt is then
        more than the base rate, which a fresh network may take hundreds of steps to find."""
        model = self.twin()
        at_rate = math.log(self.floors.best_p / (1 - self.floors.best_p))
        shift = at_rate - float(self._logits(self.output).double().mean())

        def loss(output: Tensor, _: Tensor) -> Tensor:
            logits = self._logits(output) + shift
            return self.value(logits if self.takes == "logits" else torch.sigmoid(logits))

        return self.train(model, torch.optim.AdamW(trainable(model), lr=rate), steps=steps, loss=loss)

    def _logits(self, output: Tensor) -> Tensor:
        return output if self.takes == "logits" else torch.logit(output.clamp(MARGIN, 1 - MARGIN))

    def train(
        self, model: nn.Module, optimizer: Optimizer, scheduler: Any = None, clip_norm: float | None = None, *,
        steps: int | None = None, loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> "Probe":  # fmt: skip
        """Train a copy on this batch, in place. Stops early where the loss is not finite."""
        model.train()
        weights = {name: p for name, p in model.named_parameters() if p.dim() > 1}
        losses, norms, ratios, rates, foreigners = [], [], [], [], None
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for _ in range(self.steps if steps is None else steps):
            optimizer.zero_grad()
            with torch.enable_grad():
                output = self.run(model)
                value = self.value(output) if loss is None else loss(output, self.target)
            losses.append(float(value.detach()))
            if not math.isfinite(losses[-1]) or not value.requires_grad:
                break
            foreigners = foreign(value, model) if foreigners is None else foreigners
            with gradients_kept(foreigners):
                value.backward()
            norms.append(float(nn.utils.clip_grad_norm_(parameters, clip_norm or math.inf)))
            before = {name: p.detach().clone() for name, p in weights.items()}
            rates.append([float(group["lr"]) for group in optimizer.param_groups])
            optimizer.step()
            if scheduler is not None:
                advance(scheduler)
            ratios.append({name: _ratio(before[name], p.detach()) for name, p in weights.items()})
        with torch.no_grad():
            output = self.run(model).detach()
            losses.append(float(self.value(output) if loss is None else loss(output, self.target)))
        return Probe(losses, norms, ratios, rates, model, optimizer, output)

    @contextmanager
    def evaluating(self, model: nn.Module) -> Iterator[nn.Module]:
        """A model in evaluation mode for a while."""
        model.eval()
        try:
            with torch.no_grad():
                yield model
        finally:
            model.train()


@dataclass(frozen=True)
class Probe:
    """Some steps on one batch."""

    losses: list[float]
    """Before each step, and after the last."""
    norms: list[float]
    """Gradient norm of the optimiser's parameters at each step, before clipping."""
    ratios: list[dict[str, float]]
    """For each step, by name of every parameter of two or more dimensions: norm of its change over norm of it before."""
    rates: list[list[float]]
    """Learning rate of each parameter group at each step."""
    model: nn.Module
    """As the steps left it."""
    optimizer: Optimizer
    output: Tensor
    """Of that model, in training mode."""

    @property
    def end(self) -> float:
        return self.losses[-1]


def advance(scheduler: Any) -> None:
    """One step of a learning rate's schedule, copied with its optimiser. One that waits for a validation score does not move
    within an epoch."""
    if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        return
    with warnings.catch_warnings():  # the copied optimiser has lost the mark that the scheduler put on its step
        warnings.filterwarnings("ignore", ".*overridden after learning rate scheduler.*")
        scheduler.step()


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """Every parameter that asks for a gradient; a parameter that changes nothing where there is none."""
    return [p for p in model.parameters() if p.requires_grad] or [nn.Parameter(torch.zeros(1))]


def terms_of(value: Mapping[str, Any]) -> dict[str, Tensor]:
    """The terms of a loss that returns them by name, as mmdetection adds them up: those with "loss" in their name, a tensor by
    its mean, a list by the sum of its means. Where no name has it, every tensor of one number."""
    named = {name: v for name, v in value.items() if "loss" in str(name)}
    named = named or {name: v for name, v in value.items() if isinstance(v, Tensor) and v.numel() == 1}
    found = {name: sum(t.mean() for t in tensors(v)) for name, v in named.items() if tensors(v)}
    if not found:
        raise OcclabError(f"expected a loss that returns terms with 'loss' in their names, got {sorted(map(str, value))[:8]}")
    return found


def sums_to_one(output: Tensor) -> bool:
    """Do the probabilities of a cell sum to 1 over the channels, as behind a softmax?"""
    close = 1e-4 if output.dtype in (torch.float32, torch.float64) else 0.02
    return output.dim() > 1 and bool(((output.double().sum(1) - 1).abs() < close).all()) and float(output.min()) >= 0


def _ratio(before: Tensor, after: Tensor) -> float:
    size = float(before.norm())
    return float((after - before).norm()) / size if size > 0 else math.nan
