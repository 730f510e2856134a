"""A watch over somebody's own training loop: what the doctor measures on copies, measured along the way.

Between its looks the watch keeps the loss, on its device, and nothing else. At every ``every``-th step it takes the gradients'
norm, the change of each weight and the channels that are off. It only reads: losses, weights and the optimiser's state are bit
for bit those of a loop without it.
"""

import math
from array import array
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import OcclabError
from .checks.layers import Rectified, Told, telling
from .checks.parameters import Stuck, last_weight, stuck_finding, would_show
from .checks.verdicts import (
    CLIPPED_WARN,
    LARGE,
    LATE,
    SMALL_WARN,
    STILL,
    Clips,
    clipping_finding,
    dead_finding,
    epsilon_finding,
    median_ratios,
    near_epsilon,
    rate_factor,
    ratio_evidence,
    ratio_finding,
)
from .finding import Finding, Report, Verdict, ranked

FEWEST_LOSSES = 20
"""With fewer nobody can say whether a loss stands still."""
FEWEST_LOOKS = 2
"""One look at a loop may have fallen on an odd step, such as the first."""


@dataclass(frozen=True)
class Glance:
    """One step, looked at."""

    step: int
    norm: float
    """Gradient norm as the optimiser got it."""
    raw_norm: float
    """As backward left it, before clipping; NaN where a half-precision loss scale may be in it."""
    ratios: Mapping[str, float]
    """By weight: norm of its change over its norm."""
    rates: tuple[float, ...]
    dead: Mapping[str, tuple[int, int]]
    """By layer: dead and all channels."""
    without_gradient: frozenset[str]
    unmoved: frozenset[str]
    """Parameters with gradient and rate that did not change by one bit."""


class Watch:
    """See :func:`watch`."""

    def __init__(self, model: nn.Module, optimizer: Optimizer, *, every: int = 50, clip_norm: float | None = None) -> None:
        if not isinstance(every, int) or every < 1:
            raise OcclabError(f"watch expects every >= 1, got {every!r}")
        if clip_norm is not None and not clip_norm > 0:
            raise OcclabError(f"watch expects clip_norm > 0 or None, got {clip_norm!r}")
        self.model, self.optimizer, self.every, self.clip_norm = model, optimizer, every, clip_norm
        self.fresh = not optimizer.state
        """Did the optimiser start here?"""
        self.steps = 0
        """Steps of the optimiser so far."""
        self.glances: list[Glance] = []
        self._losses, self._unread = array("d"), []
        self._always, self._armed = ExitStack(), ExitStack()
        self._raw: dict[str, Tensor] = {}
        self._before: dict[str, Tensor] | None = None
        self._depth = 0
        self._seen, self._half, self._forwards = Rectified(), False, 0

    def __enter__(self) -> "Watch":
        self._always = ExitStack()
        self._always.callback(self.optimizer.register_step_pre_hook(self._before_step).remove)
        self._always.callback(self.optimizer.register_step_post_hook(self._after_step).remove)
        self._arm()
        return self

    def __exit__(self, *_: Any) -> None:
        self._armed.close()
        self._always.close()
        self._before = None
        self._read()

    def step(self, loss: Tensor | float) -> None:
        """Note the loss of a step, after ``optimizer.step()``.

        Raises:
            OcclabError: it is not one number.
        """
        if isinstance(loss, Tensor):
            if loss.numel() != 1:
                raise OcclabError(f"watch.step expects a loss of one number, got shape {tuple(loss.shape)}")
            loss = loss.detach()
        elif not isinstance(loss, int | float):
            raise OcclabError(f"watch.step expects a loss of one number, got {type(loss).__name__}")
        self._depth = 0  # whatever a step that raised left behind
        self._unread.append(loss)
        if len(self._unread) >= self.every:
            self._read()

    @property
    def losses(self) -> list[float]:
        """As noted, in order."""
        self._read()
        return self._losses.tolist()

    def _read(self) -> None:
        """Bring the losses from their device, all at once."""
        tensors = [v for v in self._unread if isinstance(v, Tensor)]
        values = iter(
            torch.stack([t.reshape(()).to(tensors[0].device, torch.float64) for t in tensors]).tolist() if tensors else ()
        )
        self._losses.extend(next(values) if isinstance(v, Tensor) else float(v) for v in self._unread)
        self._unread.clear()

    # --- looking --------------------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        """Get ready to look at the step to come."""
        self._seen, self._half, self._forwards, self._raw = Rectified(), False, 0, {}
        self._armed.enter_context(telling(self.model, self._look))
        self._armed.callback(self.model.register_forward_hook(Told("", self._count)).remove)
        if self.clip_norm is not None:
            for name, p in self.model.named_parameters():
                if p.requires_grad and p.is_leaf:
                    self._armed.callback(p.register_post_accumulate_grad_hook(self._keep(name)).remove)

    def _look(self, name: str, module: nn.Module, output: Any) -> None:
        if not self._forwards:  # the first of several; those under gradient accumulation cost time and say no more
            self._half |= isinstance(output, Tensor) and output.dtype == torch.float16
            self._seen(name, module, output)

    def _count(self, *_: Any) -> None:
        self._forwards += 1

    def _keep(self, name: str) -> Any:
        def keep(p: Tensor) -> None:
            self._raw[name] = p.grad.detach().norm()

        return keep

    def _before_step(self, *_: Any) -> None:
        self._depth += 1  # an optimiser that calls its parent's step is told of twice
        if self._depth == 1 and self.steps % self.every == 0:
            self._before = {name: p.detach().clone() for name, p in self.model.named_parameters() if p.requires_grad}

    def _after_step(self, *_: Any) -> None:
        self._depth -= 1
        if self._depth > 0:
            return
        if self._before is not None:
            self.glances.append(self._glance(self._before))
            self._before = None
            self._armed.close()
        self.steps += 1
        if self.steps % self.every == 0:
            self._arm()

    def _glance(self, before: dict[str, Tensor]) -> Glance:
        now = {name: p for name, p in self.model.named_parameters() if name in before}
        names, gradients = list(now), {name: p.grad.detach() for name, p in now.items() if p.grad is not None}
        with torch.no_grad():
            sizes = _norms([before[name] for name in names])
            changes = _norms([now[name] - before[name] for name in names])
        rate_of = {id(p): float(group["lr"]) for group in self.optimizer.param_groups for p in group["params"]}
        unmoved = [
            name
            for name, change in zip(names, changes, strict=True)
            if change == 0 and id(now[name]) in rate_of and name in gradients
            and would_show(before[name], gradients[name], rate_of[id(now[name])], self.optimizer)
        ]  # fmt: skip
        raw = math.nan if self._half or not self._raw else math.hypot(*_norms(list(self._raw.values())))
        each = zip(names, sizes, changes, strict=True)
        return Glance(
            step=self.steps,
            norm=math.hypot(*_norms([gradients[name] for name in gradients])),
            raw_norm=raw,
            ratios={name: change / size if size else math.nan for name, size, change in each if now[name].dim() > 1},
            rates=tuple(float(group["lr"]) for group in self.optimizer.param_groups),
            dead=self._seen.counts(),
            without_gradient=frozenset(set(names) - set(gradients)),
            unmoved=frozenset(unmoved),
        )

    # --- judging --------------------------------------------------------------------------------------------------------

    def report(self) -> Report:
        """What was seen so far, judged by the doctor's cut-offs. Without copies to compare with, a suspicion about the
        optimiser is a warning at most, and told only of a loop that started here and whose loss stands still."""
        from .log_doctor.case import LogCase
        from .log_doctor.checks import diverged, non_finite, spikes
        from .log_doctor.floors import plateau_at_floor
        from .log_doctor.readings import Stated

        case = LogCase(self._log(), Stated())
        plateau = plateau_at_floor(case)
        if plateau.alarming:
            plateau = replace(plateau, verdict="note", fix="", next_experiment=None)
        findings = [non_finite(case), diverged(case), spikes(case), plateau]
        findings += [
            self._frozen(),
            self._schedule(),
            self._clipping(),
            self._gradient_scale(),
            self._update_ratio(),
            self._dead(),
        ]
        losses = self.losses
        return ranked(findings, type(self.model).__name__, {"loss": (list(range(len(losses))), losses)})

    def _log(self) -> Any:
        from .logs.log import Curve, LogSettings, TrainingLog

        def curve(steps: Any, values: Any) -> Curve:
            return Curve(np.asarray(steps, np.int64), np.asarray(values, np.float64))

        curves = {"loss": curve(range(len(self.losses)), self.losses)} if len(self.losses) else {}
        if self.glances:
            steps = [g.step for g in self.glances]
            curves["gradient_norm"] = curve(steps, [g.norm for g in self.glances])
            curves["learning_rate"] = curve(steps, [max(g.rates) for g in self.glances])
        settings = LogSettings(optimizer=type(self.optimizer).__name__, clip_norm=self.clip_norm)
        return TrainingLog(Path("watch"), "watched loop", curves, {}, settings, 1, (), len(self.losses), 0, ())

    @property
    def stands_still(self) -> bool:
        """Has the loss of a loop that started here not fallen by 2 %?"""
        losses = [x for x in self.losses if math.isfinite(x)]
        if not self.fresh or len(losses) < FEWEST_LOSSES:
            return False
        tenth = max(3, len(losses) // 10)
        return median(losses[:tenth]) - median(losses[-tenth:]) < STILL * abs(median(losses[:tenth]))

    def _frozen(self) -> Finding:
        named = dict(self.model.named_parameters())
        sizes = {name: p.numel() for name, p in named.items() if p.requires_grad}
        if not named or (sizes and len(self.glances) < FEWEST_LOOKS):
            return self._unmeasured("frozen-parameters")
        held = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        always = lambda part: [n for n in sizes if all(n in getattr(g, part) for g in self.glances)]  # noqa: E731
        unused = always("without_gradient")
        stuck = Stuck(
            sizes,
            sum(p.numel() for p in named.values()) - sum(sizes.values()),
            unused=unused,
            left_out=[name for name in sizes if id(named[name]) not in held and name not in unused],
            unmoved=always("unmoved"),
        )
        return stuck_finding(stuck, last_weight(sizes, named))

    def _schedule(self) -> Finding:
        rates = [max(g.rates) for g in self.glances]
        if len(rates) < FEWEST_LOOKS:
            return self._unmeasured("schedule")
        evidence = {"rate": rates[-1], "highest": max(rates), "cutoff": LATE, "source": "Tuning Playbook"}
        fix = "for group in optimizer.param_groups:\n    group['lr'] = 1e-3"
        if max(rates) == 0:
            title = f"The learning rate was 0 at all of {len(rates)} steps looked at."
            return Finding(
                "schedule", "fail", title, evidence | {"kind": "rate-zero"}, "Nothing is learnt at a rate of 0.", fix
            )
        if rates[-1] < LATE * max(rates) and self.stands_still:
            title = f"The learning rate fell from {max(rates):g} to {rates[-1]:g}, and the loss stands where it began."
            why = "It decayed before anything was learnt. A schedule counted in epochs is perhaps stepped at every batch."
            return Finding("schedule", "warn", title, evidence | {"kind": "decayed-before-it-learnt"}, why, fix)
        title = f"The learning rate was between {min(rates):g} and {max(rates):g} at the steps looked at."
        return Finding("schedule", "pass", title, evidence)

    def _clipping(self) -> Finding:
        if self.clip_norm is None or len(self.glances) < FEWEST_LOOKS:
            return self._unmeasured("clipping", "No clipping norm was given." if self.clip_norm is None else None)
        raw = [g.raw_norm for g in self.glances if math.isfinite(g.raw_norm)]
        if len(raw) >= FEWEST_LOOKS:
            clips = Clips.of(raw, self.clip_norm)
        else:  # behind a loss scale: a norm that is the limit was cut to it
            cut = [g.norm > 0.999 * self.clip_norm for g in self.glances if math.isfinite(g.norm)]
            clips = Clips(self.clip_norm, sum(cut) / max(1, len(cut)), None, None)
        return _at_most_warn(clipping_finding(clips, self.optimizer, not self.stands_still or clips.share <= CLIPPED_WARN))

    def _gradient_scale(self) -> Finding:
        near = near_epsilon(self.optimizer)
        if near is None:
            return self._unmeasured("gradient-scale", f"{type(self.optimizer).__name__} has no epsilon beside moments yet.")
        return _at_most_warn(epsilon_finding(near, False if self.stands_still else None))

    def _update_ratio(self) -> Finding:
        ratios = median_ratios([g.ratios for g in self.glances])
        if len(self.glances) < FEWEST_LOOKS or not ratios:
            return self._unmeasured("update-ratio")
        evidence = ratio_evidence(ratios)
        level = evidence["median_log10"]
        factor = rate_factor(level)
        if level > LARGE:
            return ratio_finding(evidence, "too-large", "warn" if self.stands_still else "note", factor)
        if level < SMALL_WARN and self.stands_still:
            rates = [max(g.rates) for g in self.glances]
            verdict: Verdict = "note" if rates[-1] > 1.1 * rates[0] else "warn"  # still warming up
            return ratio_finding(evidence, "too-small", verdict, factor)
        return ratio_finding(evidence, None, "pass")

    def _dead(self) -> Finding:
        looked = [g.dead for g in self.glances if g.dead]
        if not looked:
            return self._unmeasured("dead-channels", "No ReLU was called as a module before the last layer.")
        return dead_finding(looked[-1], not self.stands_still)

    def _unmeasured(self, id: str, reason: str | None = None) -> Finding:
        seen = f"{len(self.glances)} steps were looked at (every {self.every} of {self.steps}); {FEWEST_LOOKS} are needed."
        return Finding(id, "not-measurable", reason or seen)


def watch(model: nn.Module, optimizer: Optimizer, *, every: int = 50, clip_norm: float | None = None) -> Watch:
    """Watch a loop, as a context; its :meth:`~Watch.report` says what was seen.

    >>> with watch(model, optimizer) as w:                                       # doctest: +SKIP
    ...     for inputs, target in batches:
    ...         optimizer.zero_grad()
    ...         loss = criterion(model(inputs), target)
    ...         loss.backward()
    ...         optimizer.step()
    ...         w.step(loss)
    >>> print(w.report())                                                        # doctest: +SKIP

    The layers inside of a model compiled by ``torch.compile`` cannot be looked into: their dead channels are not measurable.

    Args:
        every: a look at every so many steps, from the first on.
        clip_norm: what the loop clips gradients at, if it does.

    Raises:
        OcclabError: ``every`` under 1, or ``clip_norm`` not above 0.
    """
    return Watch(model, optimizer, every=every, clip_norm=clip_norm)


def _at_most_warn(finding: Finding) -> Finding:
    return replace(finding, verdict="warn") if finding.verdict == "fail" else finding


def _norms(tensors: list[Tensor]) -> list[float]:
    """Norms, brought from their device at once."""
    if not tensors:
        return [0.0]
    return torch.stack([t.detach().norm().to(tensors[0].device, torch.float32) for t in tensors]).tolist()
