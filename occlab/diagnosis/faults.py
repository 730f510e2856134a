"""Faults to plant into a healthy set-up, one at a time or two, each with the check that should name it.

All are seen in real training code. ``expected`` is the cause a good engineer would name, not the symptoms that follow from it.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import nn

from . import planting as plants
from .setups import Setup


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong."""

    name: str
    expected: str
    """Id of the check that should be the report's cause."""
    plant: plants.Plant
    """Set-up and seed -> set-up with the fault. Changes the one it is given: use :meth:`into`."""
    kind: str | None = None
    """The ``kind`` that the finding's evidence should name, where its check tells several apart."""
    also: tuple[str, ...] = ()
    """Other ids that name the same thing."""

    def into(self, setup: Setup, seed: int = 0) -> Setup:
        """The set-up with this fault; the one given stays as it is."""
        return replace(self.plant(setup.copy(), seed), name=self.name)


FAULTS = (
    Fault("ReLU before the sigmoid", "bounded-output", plants.behind(nn.ReLU()), "relu-before-sigmoid"),
    Fault("BatchNorm and ReLU before the sigmoid", "bounded-output", plants.batchnorm_relu, "relu-before-sigmoid"),
    Fault(
        "ReLU, sigmoid, loss of probabilities",
        "bounded-output",
        plants.before_probabilities(nn.ReLU(), nn.Sigmoid()),
        "relu-before-sigmoid",
    ),
    Fault("dead ReLU before the sigmoid", "bounded-output", plants.dead_last_relu, "relu-before-sigmoid", ("dead-head",)),
    Fault("softplus before the sigmoid", "bounded-output", plants.behind(nn.Softplus())),
    Fault("sigmoid twice", "bounded-output", plants.behind(nn.Sigmoid()), "double-sigmoid"),
    Fault("ReLU, then sigmoid twice", "bounded-output", plants.behind(nn.ReLU(), nn.Sigmoid()), "relu-double-sigmoid"),
    Fault(
        "probabilities clamped to [0.1, 0.9]",
        "bounded-output",
        plants.before_probabilities(nn.Sigmoid(), plants.Apply(torch.clamp, 0.1, 0.9)),
        "clamped",
    ),
    Fault("logits clamped to [-1, 1]", "bounded-output", plants.behind(nn.Hardtanh()), "clamped"),
    Fault("softmax for the sigmoid", "bounded-output", plants.before_probabilities(nn.Softmax(1)), also=("dead-head",)),
    Fault("tanh as logits", "bounded-output", plants.behind(nn.Tanh())),
    Fault("saturated probabilities", "dead-head", plants.saturated),
    Fault(
        "thresholded before the loss",
        "loss-normalisation",
        plants.with_loss(lambda loss: plants.hard_output),
        "not-differentiable",
    ),
    Fault("last bias of +4.6", "output-prior", plants.last_bias(4.6)),
    Fault("last weights times 100", "initial-loss", plants.last_scale(100.0)),
    Fault("prior in a bias before BatchNorm", "silent-option", plants.prior_before_norm),
    Fault("encoder detached", "frozen-parameters", plants.encoder_detached),
    Fault("head not in the optimiser", "frozen-parameters", plants.optimised(plants.without_head)),
    Fault("half of the parameters not in the optimiser", "frozen-parameters", plants.optimised(lambda s, p: p[: len(p) // 2])),
    Fault("optimiser of another copy", "frozen-parameters", plants.optimised(plants.of_another_copy)),
    Fault("nothing asks for a gradient", "frozen-parameters", plants.without_gradients),
    Fault("output detached", "frozen-parameters", plants.output_detached),
    Fault("learning rate 0", "schedule", plants.adamw(lr=0.0)),
    Fault("decayed to nothing in 20 steps", "schedule", plants.decays_at_once),
    Fault("AdamW at 1e-7", "update-ratio", plants.adamw(lr=1e-7)),
    Fault("SGD at 1e-7", "update-ratio", plants.sgd(lr=1e-7)),
    Fault("AdamW at 10", "update-ratio", plants.adamw(lr=10.0)),
    Fault("SGD at 100", "update-ratio", plants.sgd(lr=100.0)),
    Fault("SGD clipped at 1e-3", "clipping", plants.sgd(clip_norm=1e-3)),
    Fault("Adam's epsilon of 1", "gradient-scale", plants.adamw(eps=1.0)),
    Fault("loss times 1e-9", "gradient-scale", plants.with_loss(lambda loss: lambda o, t: 1e-9 * loss(o, t))),
    Fault("sum for mean, with SGD", "loss-normalisation", plants.sum_of_losses),
    Fault("loss over its own value", "loss-normalisation", plants.with_loss(plants.over_itself)),
    Fault("mask inverted", "loss-normalisation", plants.masked(torch.logical_not)),
    Fault("mask forgotten", "loss-normalisation", plants.masked(lambda mask: None)),
    Fault("one term times 1e6", "loss-term-dominance", plants.with_loss(lambda loss: plants.dominated)),
    Fault("hidden ReLUs dead", "dead-channels", plants.dead_hidden),
    Fault("all weights 0", "dead-channels", plants.all_zero),
    Fault("dropout of 0.99", "cannot-overfit", plants.with_dropout),
    Fault("sees one channel of noise", "cannot-overfit", plants.one_useless_channel),
    Fault("forward feeds zeros", "ignores-input", plants.blind),
    Fault("input times 0 in the model", "ignores-input", plants.times_zero),
    Fault("BatchNorm momentum of 1e-4, trained", "eval-gap", plants.slow_statistics),
    Fault("running statistics lost, trained", "eval-gap", plants.lost_statistics),
    Fault("pos_weight of 50, trained", "threshold", plants.weighted),
    Fault("target flipped in x", "misaligned-target", plants.with_target(lambda t: t.flip(-1))),
    Fault("target flipped in y", "misaligned-target", plants.with_target(lambda t: t.flip(-2))),
    Fault("target flipped in height", "misaligned-target", plants.with_target(lambda t: t.flip(-3))),
    Fault("target turned by a quarter", "misaligned-target", plants.with_target(lambda t: t.rot90(1, (-2, -1)))),
    Fault("target with x and y exchanged", "misaligned-target", plants.with_target(lambda t: t.transpose(-2, -1))),
    Fault("target shifted by 3 cells", "misaligned-target", plants.with_target(lambda t: t.roll(3, -1))),
    Fault("target flipped in x, trained", "misaligned-target", plants.after_training(lambda t: t.flip(-1))),
    Fault("target of 0 and 255", "class-map", plants.with_target(lambda t: 255 * t)),
    Fault("target inverted", "class-map", plants.with_target(lambda t: 1 - t)),
    Fault("class ids off by one", "class-map", plants.classes(lambda t: t + 1)),
    Fault("empty class ignored", "class-map", plants.classes(lambda t: t, ignore_index=0)),
    Fault("soft target within [0.45, 0.55]", "soft-target-floor", plants.with_target(lambda t: 0.45 + 0.1 * t)),
    Fault("all targets empty", "empty-targets", plants.with_target(torch.zeros_like)),
    Fault("NaN in the input", "non-finite", plants.with_inputs(lambda x: plants.poke(x, math.nan))),
    Fault("infinity in the target", "non-finite", plants.with_target(lambda t: plants.poke(t, math.inf))),
    Fault("NaN weight", "non-finite", plants.nan_weight),
    Fault("inputs all 0", "input-scale", plants.with_inputs(torch.zeros_like)),
    Fault("inputs times 1e6, no norm", "input-scale", plants.large_inputs),
    Fault("timestamps in one channel", "input-scale", plants.with_inputs(plants.timestamps)),
    Fault("same frame twice", "duplicate-frames", plants.same_frame_twice),
    Fault("one input with two targets", "duplicate-frames", plants.one_input_two_targets),
)
"""The single faults."""


def _pair(first: str, second: str) -> tuple[Fault, Fault]:
    by_name = {fault.name: fault for fault in FAULTS}
    return by_name[first], by_name[second]


PAIRS = (
    _pair("ReLU before the sigmoid", "SGD clipped at 1e-3"),
    _pair("ReLU before the sigmoid", "hidden ReLUs dead"),
    _pair("sigmoid twice", "target flipped in x"),
    _pair("logits clamped to [-1, 1]", "same frame twice"),
    _pair("tanh as logits", "all targets empty"),
    _pair("encoder detached", "decayed to nothing in 20 steps"),
    _pair("last bias of +4.6", "AdamW at 1e-7"),
    _pair("last weights times 100", "mask inverted"),
    _pair("NaN in the input", "learning rate 0"),
    _pair("target of 0 and 255", "Adam's epsilon of 1"),
    _pair("sees one channel of noise", "soft target within [0.45, 0.55]"),
    _pair("BatchNorm momentum of 1e-4, trained", "target turned by a quarter"),
    _pair("forward feeds zeros", "one term times 1e6"),
    _pair("dropout of 0.99", "loss times 1e-9"),
)
"""Planted together, in this order: the cause should be one of the two."""
