"""Checks of what some steps on the batch do, and of the prediction after them.

Two short trainings on copies, both on the one batch: with the optimiser that was given, and with AdamW at 1e-3 without
clipping, the reference. What the reference learns and the given optimiser does not is the optimiser's doing; what neither
learns is the network's, the loss's or the data's.
"""

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from ...metrics import OccupancyScore, iou
from ..copying import clone, tensors
from ..finding import Experiment, Finding
from ..subject import Subject
from .step import again
from .verdicts import learnt

LEARNT = 0.3
"""Skill from which on a network counts as trained: a short probe that gains nothing says nothing against it."""
SKILL_WARN, SKILL_FAIL = 0.1, 0.05
"""Share of what can be saved over the best constant that a network must save on one batch, learnt by heart."""
DROPPED, HEAVY = 0.3, 0.7
"""Skill that dropout must cost, and its least probability, to be named: 0.5 and less are in use everywhere."""
FAST = 1e-2
"""Learning rate of AdamW where the question is what can be learnt at all."""
HEARD = 1e-3
"""Change of the output under other inputs, over its spread."""
SPREAD = 1e-2
"""Standard deviation of the logits under which a prediction is the same everywhere."""
NEAR = 0.01
"""A loss this close to a floor, relatively, has stopped at it."""
SETTLED = 0.5
"""Skill from which on the calibration of the output is judged, for on the way there it is everywhere; and dropout is not."""
GAP = 0.1
"""Share of the room between best constant and perfect prediction that evaluation mode may lose on a batch trained on."""
RISE = 2.0
"""A loss that ends at more than this times its least has diverged (TheDeepChecker)."""


def diverged(s: Subject) -> Finding:
    """Does the loss rise under the given optimiser?"""
    losses = s.own.losses
    least, finite = min((x for x in losses if math.isfinite(x)), default=math.nan), all(map(math.isfinite, losses))
    evidence = {"first": losses[0], "least": least, "end": s.own.end, "cutoff": RISE, "source": "TheDeepChecker"}
    title = f"In {len(losses) - 1} steps the loss went from {losses[0]:.4g} to {s.own.end:.4g}, {least:.4g} at the least."
    if finite and s.own.end <= max(RISE * least, least + 0.05 * abs(losses[0])):
        return Finding("diverged", "pass", title, evidence)
    rate = _rate(s)
    experiment = Experiment(
        f"Lower the learning rate from {rate:g} to {rate / 100:g}", f"loss after {s.steps} steps", 0.0, losses[0],
        lambda: (s.own.end, again(s, rate=0.01).end),
    )  # fmt: skip
    why = "Each step overshoots; what the network knew is lost."
    return Finding("diverged", "fail", title, evidence, why, f"optimizer.param_groups[0]['lr'] = {rate / 100:g}", experiment)


def spikes(s: Subject) -> Finding:
    """Does the loss jump? Robust z of its logarithm's increments over 8, three times (Tuning Playbook's instability)."""
    values = torch.tensor([max(x, 1e-12) for x in s.own.losses if math.isfinite(x)], dtype=torch.float64).log().diff()
    if len(values) < 10:
        return Finding("spikes", "not-measurable", f"{len(values)} steps are too few to tell a jump from the rest.")
    middle = values.median()
    deviation = max(float((values - middle).abs().median()) * 1.4826, 0.02)
    jumps = int(((values - middle) / deviation > 8).sum())
    title = f"{jumps} jumps of the loss in {len(values)} steps."
    evidence = {"jumps": jumps, "largest": float(values.max().exp()), "cutoff": 3, "source": "robust z over 8"}
    if jumps < 3:
        return Finding("spikes", "pass", title, evidence)
    if learnt(s, s.own.end):
        return Finding("spikes", "note", title, evidence, "The network learns all the same. A fresh Adam starts so.")
    rate = _rate(s)
    experiment = Experiment(
        f"Lower the learning rate from {rate:g} to {rate / 10:g}", f"loss after {s.steps} steps", 0.0, s.own.end,
        lambda: (s.own.end, again(s, rate=0.1).end),
    )  # fmt: skip
    why = "The steps are at the edge of what the loss surface bears."
    fix = "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # or a third of the learning rate"
    return Finding("spikes", "warn", title, evidence, why, fix, experiment)


def cannot_overfit(s: Subject) -> Finding:
    """Can this network learn this one batch at all, beyond the base rate?"""
    if s.by_class:
        return Finding("cannot-overfit", "not-measurable", "Measured on occupancy, not on classes.")
    best, end, steps = s.floors.best_constant, min(s.look.loss, s.reference.end), s.steps
    for taken, rate in ((s.steps, 1e-3), (3 * s.steps, FAST)):  # the second where the first was perhaps only slow
        if not s.skill(end) >= SKILL_WARN:
            steps, end = taken, min(end, s.from_base_rate(taken, rate).end)
    skill = s.skill(end)
    evidence = {"end": end, "best_constant": best, "perfect": s.floors.perfect, "skill": skill, "steps": steps}
    evidence |= {"cutoff": [SKILL_WARN, SKILL_FAIL], "source": "Karpathy's recipe: overfit one batch"}
    title = f"After {steps} steps on this batch alone the loss is {end:.4g}; one answer everywhere costs {best:.4g}."
    why = "It lacks something that learning needs: the information, the capacity, or a way for gradients."
    below = best - SKILL_WARN * (best - s.floors.perfect)
    dropping = [m for m in s.model.modules() if isinstance(m, nn.modules.dropout._DropoutNd) and m.p >= HEAVY]
    if dropping and skill < SETTLED:
        steps, skill = 3 * s.steps, s.skill(end := min(end, s.from_base_rate(3 * s.steps, FAST).end))
    if dropping and skill < SETTLED and s.skill(freed := _without_dropout(s)) - skill > DROPPED:
        worst = max(m.p for m in dropping)
        title = f"After {steps} steps on this batch alone the loss is {end:.4g}; without dropout (up to {worst:g}) {freed:.4g}."
        evidence |= {"end": end, "skill": skill, "steps": steps}
        evidence |= {"kind": "dropout", "without_dropout": freed, "p": worst}
        fix = "for m in model.modules():\n    if isinstance(m, nn.modules.dropout._DropoutNd):\n        m.p = 0.1"
        experiment = Experiment(
            "Switch dropout off", f"loss after {3 * s.steps} steps", s.floors.perfect, below, lambda: (end, _without_dropout(s))
        )
        return Finding("cannot-overfit", "fail", title, evidence, why, fix, experiment)
    if skill >= SKILL_WARN or math.isnan(skill):
        return Finding("cannot-overfit", "pass" if skill >= SKILL_WARN else "not-measurable", title, evidence)
    fix = (
        "# Is what the target shows in the input at all? Then take parts of the network away until one batch is learnt.\n"
        "plain = nn.Sequential(\n    nn.Conv2d(inputs.shape[1], 32, 3, padding=1), nn.ReLU(),\n"
        "    nn.Conv2d(32, target.shape[1], 3, padding=1),\n)"
    )
    run = (lambda: (end, _plain(s))) if _plain_fits(s) else None
    experiment = Experiment("Put two plain convolutions in its place", f"loss after {3 * s.steps} steps", 0.0, below, run)
    return Finding("cannot-overfit", "fail" if skill < SKILL_FAIL else "warn", title, evidence, why, fix, experiment)


def ignores_input(s: Subject) -> Finding:
    """Does the output change where the input does?"""
    model, kept = copy.deepcopy(s.reference.model), clone(s.inputs)
    given = tensors(kept)
    if not given:
        return Finding("ignores-input", "not-measurable", "The inputs hold no tensor.")
    generator = torch.Generator().manual_seed(0)
    for t in given:  # each of its numbers somewhere else: same values, other scene
        flat = t.reshape(-1)
        flat.copy_(flat[torch.randperm(flat.numel(), generator=generator).to(flat.device)].clone())
    before, after = (_drawn(s, model, inputs) for inputs in (s.inputs, kept))
    change = float((after - before).square().mean().sqrt())
    heard = change / max(float(before.std(correction=0)), 1e-6 * (1 + float(before.abs().mean())))
    evidence = {"change_over_spread": heard, "cutoff": HEARD}
    evidence |= {"source": "Karpathy's recipe: input-independent baseline"}
    title = f"With the input's numbers shuffled, the output changes by {heard:.3g} of its spread."
    if heard >= HEARD:
        return Finding("ignores-input", "pass", title, evidence)
    why = "The network can only learn where things usually are, never what is there."
    fix = (
        "# Where does the input stop to matter?\n"
        "for layer in occlab.diagnosis.signal_flow(model, inputs):\n    print(layer.name, layer.std)"
    )
    room = s.reference.end
    experiment = Experiment(
        "Zero the inputs", f"loss after {s.steps} steps", 0.98 * room, 1.02 * room, lambda: (room, _blind(s))
    )
    return Finding("ignores-input", "fail", title, evidence, why, fix, experiment)


def constant_prediction(s: Subject) -> Finding:
    """Is the prediction the same everywhere, after some steps?"""
    p = s.p(s.reference.output)
    if s.target[s.counted].unique().numel() < 2:
        return Finding("constant-prediction", "not-measurable", "The target is the same everywhere, as the prediction may be.")
    if s.by_class:
        spread = float(s.reference.output.float().std(dim=tuple(i for i in range(p.dim()) if i != 1)).mean())
    else:
        spread = float(torch.logit(p[s.counted].double().clamp(1e-9, 1 - 1e-9)).std(correction=0))
    evidence = {"logit_std": spread, "cutoff": SPREAD, "source": "TheDeepChecker: outputs constantly unchanged"}
    title = f"After {s.steps} steps the logits spread by {spread:.3g}."
    if spread >= SPREAD or (not s.by_class and s.skill(s.reference.end) >= LEARNT):
        return Finding("constant-prediction", "pass", title, evidence)
    why = "One answer everywhere: the loss can fall to the base rate's and no further."
    return Finding("constant-prediction", "fail", title, evidence, why, "# a symptom: see the root cause")


def plateau_at_floor(s: Subject) -> Finding:
    """Does the loss stop at what needs no learning?"""
    if s.by_class:
        return Finding("plateau-at-floor", "not-measurable", "Measured on occupancy, not on classes.")
    floors = {"p = 1/2 everywhere": s.floors.half, f"p = {s.floors.best_p:.4f} everywhere": s.floors.best_constant}
    ends = {"given": s.own, "reference": s.reference}
    at = {}
    for who, probe in ends.items():
        near = [name for name, floor in floors.items() if abs(probe.end - floor) <= NEAR * abs(floor)]
        flat = abs(probe.losses[len(probe.losses) // 2] - probe.end) <= NEAR * abs(probe.end)
        at[who] = near[0] if near and flat else None
    evidence: dict[str, Any] = {"end": s.own.end, "reference_end": s.reference.end, **floors, "cutoff": NEAR}
    if at["given"] is None:
        return Finding("plateau-at-floor", "pass", f"After {s.steps} steps the loss is {s.own.end:.4g}, on no floor.", evidence)
    title = f"The loss has stopped at {s.own.end:.4g}, which is what {at['given']} costs."
    if at["reference"] is None:
        title = f"{title} The reference optimiser leaves it: {s.reference.end:.4g}."
        return Finding("plateau-at-floor", "note", title, evidence)
    why = "This number needs no input and no network; the loss is not about to fall, it is where an empty answer ends."
    return Finding("plateau-at-floor", "fail", title, evidence, why, "# see the root cause: no optimiser setting lifts a floor")


def low_skill(s: Subject) -> Finding:
    """How much of what can be saved over the best constant is saved?"""
    if s.by_class:
        return Finding("low-skill", "not-measurable", "Measured on occupancy, not on classes.")
    skill = s.skill(s.look.loss)
    evidence = {"skill": skill, "after_own_steps": s.skill(s.own.end), "after_reference_steps": s.skill(s.reference.end)}
    evidence |= {"cutoff": 0.0, "source": "McFadden's pseudo-R2"}
    title = (
        f"Of what a network could save over the best constant, this one saves {100 * skill:.0f} %."
        if skill > 0
        else "The network does not do better yet than the best constant answer."
    )
    return Finding("low-skill", "pass" if skill > 0.1 else "note", title, evidence)


def eval_gap(s: Subject) -> Finding:
    """Does evaluation mode lose what training mode knows, on the batch trained on?"""
    norms = [m for m in s.model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    if s.by_class or not norms:
        return Finding("eval-gap", "not-measurable", "Measured on occupancy, with BatchNorm that keeps running averages.")
    model, training = s.copies()[0].train(), s.look.loss
    with s.evaluating(model):
        evaluated = float(s.value(s.run(model)))
    room = s.floors.best_constant - s.floors.perfect
    gap = (evaluated - training) / room if room > 0 else math.nan
    momenta = [m.momentum for m in norms if m.momentum is not None]
    evidence = {"training": training, "evaluated": evaluated, "gap": gap, "least_momentum": min(momenta, default=None)}
    evidence |= {"cutoff": GAP, "source": "TheDeepChecker: train / eval consistency"}
    title = f"In training mode the batch costs {training:.4g}, in evaluation mode {evaluated:.4g}."
    if not (s.skill(training) >= LEARNT and gap > GAP):
        return Finding("eval-gap", "pass", title, evidence)
    why = "BatchNorm's running averages are not those of the batches: the scores say nothing about what was learnt."
    fix = (
        "for m in model.modules():\n    if isinstance(m, nn.modules.batchnorm._BatchNorm):\n        m.momentum = 0.1\n"
        "torch.optim.swa_utils.update_bn(loader, model)  # and take the averages anew before evaluating"
    )
    experiment = Experiment(
        "Take the running averages anew on this batch", "loss in evaluation mode", s.floors.perfect, training + GAP * room,
        lambda: (evaluated, _reestimated(s)),
    )  # fmt: skip
    return Finding("eval-gap", "fail", title, evidence, why, fix, experiment)


def threshold(s: Subject) -> Finding:
    """Is 1/2 the threshold to score this output at?"""
    if s.by_class or not s.rate > 0:
        return Finding("threshold", "not-measurable", "Needs occupancy targets with something occupied.")
    p, target = s.p(s.look.output), s.target.float()
    score = OccupancyScore()
    score.update(_volume(p), _volume((target > 0.5).float()), _volume(s.counted))
    scores = score.compute()
    mean = float(p[s.counted].double().mean())
    evidence = {"iou": scores.iou, "best_iou": scores.best_iou, "best_threshold": scores.best_threshold, "mean_p": mean}
    evidence |= {"rate": s.rate, "cutoff": [0.3, 0.7], "source": "threshold sweep"}
    title = f"IoU is {scores.iou:.3f} at 1/2 and {scores.best_iou:.3f} at {scores.best_threshold:.2f}."
    ratio = mean / s.rate
    lost = scores.best_iou > 0.25 and scores.best_iou - scores.iou > max(0.1, 0.2 * scores.best_iou)
    if not (s.skill(s.look.loss) >= SETTLED and lost and not 0.3 <= scores.best_threshold <= 0.7 and not 0.5 <= ratio <= 2):
        return Finding("threshold", "pass", title, evidence)
    why = f"The output says {mean:.3f} on average where {s.rate:.3f} is occupied: it ranks well and is badly calibrated."
    fix = f"occupied = torch.sigmoid(logits) > {scores.best_threshold:.2f}  # found on validation frames; or drop pos_weight"
    experiment = Experiment(
        f"Score at {scores.best_threshold:.2f}",
        "IoU on this batch",
        0.9 * scores.best_iou,
        1.0,
        lambda: (scores.iou, iou(p > scores.best_threshold, target > 0.5, s.counted)),
    )
    return Finding("threshold", "warn", title, evidence, why, fix, experiment)


def accuracy_trap(s: Subject) -> Finding:
    """What accuracy says here, beside IoU."""
    if s.by_class or not s.rate > 0:
        return Finding("accuracy-trap", "not-measurable", "Needs occupancy targets with something occupied.")
    p, target = s.p(s.look.output)[s.counted], (s.target > 0.5)[s.counted]
    accuracy, empty = float(((p > 0.5) == target).double().mean()), 1 - float(target.double().mean())
    overlap = iou(p > 0.5, target)
    evidence = {"accuracy": accuracy, "accuracy_of_all_empty": empty, "iou": overlap, "source": "base rate"}
    title = f"Accuracy is {accuracy:.3f}; an empty answer has {empty:.3f}. IoU is {overlap:.3f}."
    return Finding("accuracy-trap", "note" if accuracy > 0.9 and overlap < 0.05 else "pass", title, evidence)


# --- experiments and small things ---------------------------------------------------------------------------------------


def _drawn(s: Subject, model: nn.Module, inputs: Any) -> Tensor:
    """The output without dropout, which is not the question, and with the same random numbers every time."""
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.eval()
    with torch.no_grad(), torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(0)
        return s.run(model, inputs).double()


def _rate(s: Subject) -> float:
    return max((rate for rates in s.own.rates[:1] for rate in rates), default=0.0)


def _without_dropout(s: Subject) -> float:
    model = s.twin()
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
    return Subject(model, s.inputs, s.target, s.loss, forward=s.forward, mask=s.mask).from_base_rate(3 * s.steps, FAST).end


def _plain_fits(s: Subject) -> bool:
    """Are the inputs one map or volume on the output's own cells?"""
    return isinstance(s.inputs, Tensor) and s.inputs.dim() in (4, 5) and s.inputs.shape[2:] == s.output.shape[2:]


def _plain(s: Subject) -> float:
    """What two convolutions of 3 learn from the same inputs."""
    convolution = nn.Conv2d if s.inputs.dim() == 4 else nn.Conv3d
    first, last = convolution(s.inputs.shape[1], 32, 3, padding=1), convolution(32, s.output.shape[1], 3, padding=1)
    model = nn.Sequential(first, nn.ReLU(), last, *([nn.Sigmoid()] if s.takes == "probabilities" else []))
    plain = Subject(model.to(s.inputs.device), s.inputs, s.target, s.loss, mask=s.mask)
    return plain.from_base_rate(3 * s.steps, FAST).end


def _blind(s: Subject) -> float:
    zeros = clone(s.inputs)
    for t in tensors(zeros):
        t.zero_()
    blind = Subject(s.model, zeros, s.target, s.loss, forward=s.forward, mask=s.mask, steps=s.steps)
    return blind.reference.end


def _reestimated(s: Subject) -> float:
    model = s.twin()
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None  # a plain mean over all passes
    with torch.no_grad():
        s.run(model)
        with s.evaluating(model):
            return float(s.value(s.run(model)))


def _volume(t: Tensor) -> Tensor:
    """(B, Z, Y, X) from whatever shape, for the score."""
    while t.dim() < 4:
        t = t[None]
    return t.flatten(1, t.dim() - 3)


STRUCTURE = ()
PROBES = (
    diverged,
    spikes,
    cannot_overfit,
    ignores_input,
    constant_prediction,
    plateau_at_floor,
    low_skill,
    eval_gap,
    threshold,
    accuracy_trap,
)
