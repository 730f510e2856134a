"""The doctor on a model: every check, and one root cause."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import OcclabError
from .checks import PROBES, STRUCTURE, Check
from .copying import duplicate, first_line, random_numbers_kept, tensors
from .finding import VERDICTS, Finding, Report, ranked
from .layout import in_usual_form
from .subject import Subject

BINS = 60
"""Of the histogram of probabilities."""

_UNREADABLE = ("class-map", "non-finite")
"""What can be wrong with the targets so that the loss refuses them: the finding then says more than the loss."""


def diagnose(
    model: nn.Module,
    batch: tuple[Any, Tensor],
    loss: Callable[[Any, Any], Any],
    *,
    optimizer: Optimizer | None = None,
    forward: Callable[[nn.Module, Any], Any] | None = None,
    mask: Tensor | None = None,
    steps: int = 50,
    clip_norm: float | None = None,
    scheduler: Any = None,
) -> Report:
    """What keeps a network from learning, with the number that convicts it.

    Everything happens on copies: weights, buffers, optimiser, modes and random numbers are bit for bit what they were.

    Args:
        model: any module; ``model(inputs)`` is what the loss is given.
        batch: ``(inputs, target)``. Inputs are a tensor, or a tuple, list or dict of tensors. The target has the output's
            shape, in [0, 1], e.g. (B, Z, Y, X) or (B, 1, Z, Y, X); or integer classes, without the output's dimension of
            classes, 1 or the last; or classes as MONAI's losses take them, (B, 1, ...) or one-hot.
        loss: called as ``loss(output, target)``; takes logits or probabilities, which is found out; returns one number, or
            terms by name as mmdetection's losses do.
        optimizer: the one in use, for the checks of steps; without it AdamW at 1e-3 stands in.
        forward: called as ``forward(model, inputs)`` where ``model(inputs)`` does not give the tensor for the loss.
        mask: bool, broadcastable to the target: True where a cell counts. The loss applies it itself.
        steps: of each probe, 20 to 200.
        clip_norm: what gradients are clipped at.
        scheduler: of the learning rate, made for ``optimizer``.

    Raises:
        OcclabError: a model that cannot be copied or run on this batch, a loss that is not one number, a mask of another kind.
    """
    if not (isinstance(batch, tuple | list) and len(batch) == 2 and isinstance(batch[1], Tensor)):
        raise OcclabError("expected batch=(inputs, target) with a tensor as target")
    if not 1 <= steps <= 1000:
        raise OcclabError(f"expected steps from 1 to 1000, got {steps}")
    if not tensors(batch[0]) and forward is None:
        raise OcclabError(f"expected inputs with a tensor in them, got {type(batch[0]).__name__}")
    model = getattr(model, "_orig_mod", model)  # each copy of a compiled one would be compiled again
    if any(isinstance(p, nn.parameter.UninitializedTensorMixin) for p in model.parameters()):
        raise OcclabError(f"{type(model).__name__} has lazy layers without weights: expected a model that has seen one batch")
    if mask is not None and not _fits(mask, batch[1]):
        got = f"{tuple(mask.shape)} {mask.dtype}" if isinstance(mask, Tensor) else type(mask).__name__
        raise OcclabError(f"expected mask= of bool, broadcastable to the target's {tuple(batch[1].shape)}, got {got}")
    if isinstance(loss, nn.Module):
        [loss] = duplicate(loss)  # it may count or average
    subject = Subject(model, batch[0], batch[1], loss, optimizer, forward, mask, steps, clip_norm, scheduler)
    with _as_in_training():
        try:
            _ = subject.output
        except OcclabError:
            raise
        except Exception as error:
            raise OcclabError(f"{subject.name}: the model does not run on this batch: {first_line(error)}") from error
        subject = in_usual_form(subject)
        findings = _run(STRUCTURE, subject)
        if any(f.verdict == "fail" for f in findings):
            done = {f.id for f in findings}
            skipped = dict.fromkeys(id for check in PROBES if (id := _id(check)) not in done)
            findings += [Finding(id, "not-measurable", "Not run: what failed above comes first.") for id in skipped]
        else:
            findings += _run(PROBES, subject)
        report = ranked(_worst_of_each(findings), subject.name, _curves(subject))
        if report.cause not in _UNREADABLE:
            try:
                _ = subject.look  # raises where the loss could not be had at all
            except OcclabError:
                raise
            except Exception as error:
                raise OcclabError(f"{subject.name}: no loss or no gradient on this batch: {first_line(error)}") from error
    return report


@contextmanager
def _as_in_training() -> Iterator[None]:
    """With gradients, whatever stands around it; random numbers are given back."""
    with random_numbers_kept(), torch.inference_mode(False), torch.enable_grad():
        yield


def _fits(mask: Any, target: Tensor) -> bool:
    """Is it a bool tensor that broadcasts to the target?"""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        return False
    try:
        return torch.broadcast_shapes(mask.shape, target.shape) == target.shape
    except RuntimeError:
        return False


def _run(checks: Sequence[Check], subject: Subject) -> list[Finding]:
    found = []
    for check in checks:
        try:
            found.append(_apart(check(subject)))
        except Exception as error:  # anybody's model and loss: one check that cannot be made must not cost the others
            reason = str(error).strip().splitlines() or [""]
            found.append(Finding(_id(check), "not-measurable", f"{type(error).__name__}: {reason[0][:200]}"))
    return found


def _apart(finding: Finding) -> Finding:
    """The finding with an experiment that, whenever it is run, leaves no trace either."""
    experiment = finding.next_experiment
    if experiment is None or experiment.run is None:
        return finding

    def run(measure: Callable[[], tuple[float, float]] = experiment.run) -> tuple[float, float]:
        with _as_in_training():
            return measure()

    return replace(finding, next_experiment=replace(experiment, run=run))


def _id(check: Check) -> str:
    name = check.__name__.replace("_", "-")
    return {"unchanged-parameters": "frozen-parameters"}.get(name, name)


def _worst_of_each(findings: Sequence[Finding]) -> list[Finding]:
    """One finding for each id: of several the worst."""
    worst: dict[str, Finding] = {}
    for finding in findings:
        other = worst.get(finding.id)
        if other is None or VERDICTS.index(finding.verdict) < VERDICTS.index(other.verdict):
            worst[finding.id] = finding
    return list(worst.values())


def _curves(subject: Subject) -> dict[str, Any]:
    """What the report draws: the probe's loss, the floors, the histogram of the probabilities."""
    curves: dict[str, Any] = {}
    if "own" in vars(subject):
        curves["loss"] = (list(range(len(subject.own.losses))), subject.own.losses)
    if subject.by_class:
        return curves
    try:
        p, floors = subject.p(subject.output), subject.floors
    except Exception:  # no picture of a loss that cannot be had
        return curves
    curves["floors"] = {"p = 1/2": floors.half, f"p = {floors.best_p:.3g}": floors.best_constant, "p = target": floors.perfect}
    counts = torch.histc(p.float().cpu(), BINS, 0.0, 1.0)
    curves["histogram"] = (torch.linspace(0, 1, BINS + 1).tolist(), counts.tolist())
    return curves
