"""Checks of the layers that one forward pass calls: channels that are never on, and options that change nothing."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..copying import random_numbers_kept
from ..finding import Experiment, Finding
from ..flow import kind_of
from ..subject import Subject
from .verdicts import dead_finding, dead_share, is_rectifier, learnt

EXPERIMENT_STEPS = 20
PUSH = 3.0
"""Added to a bias, to see whether the output moves: in logits, from p = 1/2 to 0.95."""
UNMOVED = 1e-3
"""Change of the output, over 1 + its spread, up to which a push did nothing: rounding in a norm."""
FAR = 100.0
"""A clipping norm this many times the largest gradient norm is no clipping. Chosen here."""


# --- dead channels ------------------------------------------------------------------------------------------------------


def dead_channels(s: Subject) -> Finding:
    """Channels behind a ReLU that are zero everywhere in the batch. What rectifies the output itself is left out: that is
    ``bounded-output`` or ``dead-head``."""
    if _fed_nothing(s):
        why = "The first layer is given the same number everywhere: then half of all channels may be off."
        return Finding("dead-channels", "not-measurable", why)
    layers = _dead(s, s.twin())
    if not layers:
        return Finding("dead-channels", "not-measurable", "No ReLU is called as a module before the last layer.")
    trained = learnt(s, s.look.loss) if any(dead for dead, _ in layers.values()) else None
    worst = lambda found: max(dead / whole for dead, whole in found.values())  # noqa: E731

    def anew() -> tuple[float, float]:
        model = s.twin()
        with random_numbers_kept():
            for module in model.modules():
                if callable(getattr(module, "reset_parameters", None)):
                    module.reset_parameters()
        s.train(model, torch.optim.AdamW(model.parameters(), lr=1e-3), steps=EXPERIMENT_STEPS)
        return worst(layers), worst(_dead(s, model))

    quantity = f"largest share of dead channels in a layer after {EXPERIMENT_STEPS} steps"
    experiment = Experiment("Initialise every layer anew", quantity, 0.0, 0.5, anew)
    return dead_finding(layers, trained, experiment)


def _fed_nothing(s: Subject) -> bool:
    """Is what the first convolution or linear layer is given the same everywhere? Channels behind it then say nothing of it."""
    model, given = s.twin(), []

    def keep(_: nn.Module, inputs: tuple) -> None:
        given.extend(t for t in inputs if isinstance(t, Tensor) and not given)

    handles = [m.register_forward_pre_hook(keep) for m in model.modules() if kind_of(m) == "convolution"]
    try:
        with torch.no_grad():
            s.run(model)
    finally:
        for handle in handles:
            handle.remove()
    return bool(given) and bool((given[0] == given[0].reshape(-1)[0]).all())


def _dead(s: Subject, model: nn.Module) -> dict[str, tuple[int, int]]:
    seen = Rectified()
    with torch.no_grad(), telling(model, seen):
        s.run(model)
    return seen.counts()


class Rectified:
    """Counts dead channels of each rectifier call that has a convolution or linear layer behind it; for :func:`telling`."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[Tensor, int]] = {}
        self.pending: dict[str, tuple[Tensor, int]] = {}
        self.linear = False

    def __call__(self, name: str, module: nn.Module, output: Any) -> None:
        if kind_of(module) == "convolution":
            self.found.update(self.pending)
            self.pending.clear()
            self.linear = isinstance(module, nn.Linear)
        elif is_rectifier(module) and isinstance(output, Tensor):
            counted = dead_share(output, channels_last=self.linear and output.dim() > 2)
            if counted is not None:
                again = sum(key.partition(" (call")[0] == name for key in (*self.found, *self.pending))
                self.pending[f"{name} (call {again + 1})" if again else name] = counted

    def counts(self) -> dict[str, tuple[int, int]]:
        """By name: dead and all channels."""
        return {name: (int(dead), whole) for name, (dead, whole) in self.found.items()}


class Told:
    """A forward hook that tells ``look(name, module, output)`` in training mode. Copies and checkpoints made of the model
    meanwhile get one that does nothing."""

    def __init__(self, name: str, look: Callable[[str, nn.Module, Any], None]) -> None:
        self.name, self.look = name, look

    def __call__(self, module: nn.Module, _: Any, output: Any) -> None:
        if module.training:
            self.look(self.name, module, output)

    def __reduce__(self) -> tuple[type, tuple]:
        return _Nothing, ()


class _Nothing:
    def __call__(self, *_: Any) -> None:
        pass


@contextmanager
def telling(model: nn.Module, look: Callable[[str, nn.Module, Any], None]) -> Iterator[None]:
    """Tells ``look(name, module, output)`` of each convolution, norm and activation in training mode, as it returns."""

    layers = [(name or type(m).__name__, m) for name, m in model.named_modules() if kind_of(m) is not None]
    handles = [m.register_forward_hook(Told(name, look)) for name, m in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


# --- options that change nothing ----------------------------------------------------------------------------------------


def silent_option(s: Subject) -> Finding:
    """Is something set that changes nothing?"""
    found = [
        finding
        for part in (_foreign_scheduler, _bias_before_norm, _empty_groups, _far_clipping, _neutral)
        for finding in part(s)
    ]
    if not found:
        return Finding("silent-option", "pass", "Nothing was found that is set and changes nothing.")
    return min(found, key=lambda finding: ("warn", "note").index(finding.verdict))


def _foreign_scheduler(s: Subject) -> Iterator[Finding]:
    driven = getattr(s.scheduler, "optimizer", None)
    if s.optimizer is None or driven is None or driven is s.optimizer or getattr(driven, "optimizer", None) is s.optimizer:
        return
    rates = lambda optimizer: [float(group["lr"]) for group in optimizer.param_groups]  # noqa: E731

    def driven_rates() -> tuple[float, float]:
        _, _, scheduler = s.copies()
        return rates(s.optimizer)[0], rates(scheduler.optimizer)[0]

    title = f"The scheduler drives another optimiser ({type(driven).__name__}) than the one given: 0 of its groups change."
    evidence = {"kind": "foreign-scheduler", "rate": rates(s.optimizer)[0], "driven_rate": rates(driven)[0]}
    evidence |= {"cutoff": 0, "source": "chosen here"}
    experiment = Experiment(
        "Make the scheduler for this optimiser", "its learning rate now", *([rates(driven)[0]] * 2), driven_rates
    )
    fix = f"scheduler = torch.optim.lr_scheduler.{type(s.scheduler).__name__}(optimizer, ...)  # after the optimiser was made"
    yield Finding("silent-option", "warn", title, evidence, "The learning rate stays what it is.", fix, experiment)


def _bias_before_norm(s: Subject) -> Iterator[Finding]:
    """A last bias that was set on purpose, all channels alike, and that a norm behind it subtracts again."""
    model, called = s.twin(), []
    with torch.no_grad(), telling(model, lambda name, module, _: called.append((name, module))):
        s.run(model)
    at = max((i for i, (_, m) in enumerate(called) if kind_of(m) == "convolution"), default=None)
    norm = None if at is None else next(((n, m) for n, m in called[at + 1 :] if kind_of(m) == "norm"), None)
    bias = getattr(called[at][1], "bias", None) if at is not None else None
    if norm is None or not isinstance(bias, Tensor):
        return
    value, weight = float(bias.detach().reshape(-1)[0]), called[at][1].weight
    # One channel alone is set on purpose where no usual initialisation would put it.
    on_purpose = bias.numel() > 1 or abs(value) > 1.001 * (weight[0].numel() or 1) ** -0.5
    if value == 0 or not bool((bias == value).all()) or not on_purpose or _moved_by(s, called[at][0]) > UNMOVED:
        return
    first, behind = called[at][0], norm[0]

    def mean_behind(fill: bool) -> float:
        twin, means = s.twin(), []
        module = dict(twin.named_modules())[behind]
        with torch.no_grad():
            if fill:
                module.bias.fill_(value)
            with telling(twin, lambda name, m, output: means.append(float(output.float().mean())) if m is module else None):
                s.run(twin)
        return means[-1]

    experiment = None
    if isinstance(getattr(norm[1], "bias", None), nn.Parameter):
        width = 0.02 * (1 + abs(value))
        experiment = Experiment(
            f"Set the bias of {behind} instead", f"mean of what {behind} returns", value - width, value + width,
            lambda: (mean_behind(False), mean_behind(True)),
        )  # fmt: skip
    title = f"The bias of {first} is {value:.4g} in every channel, and {behind} subtracts it: the output does not move."
    evidence = {"kind": "bias-before-norm", "layer": first, "norm": behind, "bias": value, "push": PUSH, "cutoff": UNMOVED}
    evidence |= {"source": "measured by pushing the bias"}
    why = "A norm takes away the mean of each channel, and with it any bias in front of it; an output prior is lost."
    fix = f"nn.init.constant_(model.get_submodule({behind!r}).bias, {value:.4g})\n"
    fix += f"nn.init.zeros_(model.get_submodule({first!r}).bias)"
    yield Finding("silent-option", "warn", title, evidence, why, fix, experiment)


def _moved_by(s: Subject, layer: str) -> float:
    """Change of the output when a layer's bias is pushed, over 1 + the output's spread."""
    outputs = []
    for push in (0.0, PUSH):
        twin = s.twin()
        with torch.no_grad(), random_numbers_kept():
            torch.manual_seed(0)
            dict(twin.named_modules()).get(layer, twin).bias.add_(push)
            outputs.append(s.run(twin).float())
    return float((outputs[1] - outputs[0]).abs().max() / (1 + outputs[0].std(correction=0)))


def _empty_groups(s: Subject) -> Iterator[Finding]:
    """Groups of the optimiser in which nothing of the model is: their settings reach nobody."""
    if s.optimizer is None:
        return
    modules = [m for m in (s.model, s.loss) if isinstance(m, nn.Module)]
    mine = {id(p) for m in modules for p in m.parameters()}
    groups = [(i, g, any(id(p) in mine for p in g["params"])) for i, g in enumerate(s.optimizer.param_groups)]
    rates = {float(g["lr"]) for _, g, used in groups if used}
    for i, group, used in groups:
        if used or not rates or group["params"]:  # with parameters of something else it may be for that
            continue
        title = f"Group {i} of the optimiser holds 0 parameters; its learning rate of {float(group['lr']):g} reaches nobody."
        evidence = {"kind": "empty-group", "group": i, "rate": float(group["lr"]), "cutoff": 0, "source": "chosen here"}
        if float(group["lr"]) in rates:
            yield Finding("silent-option", "note", title, evidence)
            continue
        why = "It was meant for parameters, probably by name, and the name matches none."
        fix = "print([name for name, _ in model.named_parameters()])  # and correct the name that the group is made from"
        held = lambda i=i: len(s.optimizer.param_groups[i]["params"])  # noqa: E731
        experiment = Experiment("Correct the name", f"parameters in group {i}", 1, len(list(s.model.parameters())))
        yield Finding("silent-option", "warn", title, evidence | {"held": held()}, why, fix, experiment)


def _far_clipping(s: Subject) -> Iterator[Finding]:
    norms = [n for n in s.own.norms if n < float("inf")] if s.clip_norm is not None else []
    if norms and s.clip_norm > FAR * max(norms):
        evidence = {
            "kind": "clip-norm",
            "clip_norm": s.clip_norm,
            "largest": max(norms),
            "cutoff": FAR,
            "source": "chosen here",
        }
        title = f"The clipping norm is {s.clip_norm:g}; the largest gradient norm in {len(norms)} steps is {max(norms):.3g}."
        yield Finding("silent-option", "note", title, evidence)


def _neutral(s: Subject) -> Iterator[Finding]:
    """Settings of the loss and of dropout at the value at which they do nothing."""
    found = [text for part in _parts(s.loss) for text in _neutral_settings(part)]
    dropouts = [name for name, m in s.model.named_modules() if isinstance(m, nn.modules.dropout._DropoutNd) and m.p == 0]
    if dropouts:
        found.append(f"{len(dropouts)} dropout layers of p = 0 ({dropouts[0]})")
    if found:
        evidence = {"kind": "neutral", "settings": found, "cutoff": 0, "source": "chosen here"}
        yield Finding("silent-option", "note", f"Set, and changing nothing: {'; '.join(found)}.", evidence)


def _parts(loss: Any) -> list[Mapping[str, Any]]:
    """The attributes of a loss and of what it is made of, one level deep."""
    whole = [loss, *(loss.modules() if isinstance(loss, nn.Module) else ())]
    whole += [v for v in getattr(loss, "__dict__", {}).values() if hasattr(v, "__dict__") and callable(v)]
    unique = {id(part): part for part in whole if hasattr(part, "__dict__")}
    return [vars(part) | vars(part).get("_buffers", {}) for part in unique.values()]


def _neutral_settings(attributes: Mapping[str, Any]) -> Iterator[str]:
    for name in ("pos_weight", "height_weights", "weight", "class_weight"):
        try:
            values = torch.as_tensor(attributes.get(name), dtype=torch.float64).reshape(-1)
        except (TypeError, ValueError, RuntimeError):
            continue
        if name == "pos_weight" and values.numel() and bool((values == 1).all()):
            yield "pos_weight = 1"
        elif name != "pos_weight" and values.numel() > 1 and bool((values == values[0]).all()):
            yield f"{name} all equal to {float(values[0]):g}"
    for name, weight in (("focal_gamma", "focal"), ("gamma", None)):
        if attributes.get(name) == 0 and (weight is None or attributes.get(weight)):
            yield f"{name} = 0, which is cross-entropy"
