"""The knobs of a training as data: what can be set, what each setting does, and what it did in the recorded runs.

A knob turns settings by their dotted names, as an arm of an ablation does, so that what fits and what does not is for the
library to say. No figure of a result stands here: :mod:`.knob_words` computes them from the recorded tables.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ..ablation import both_heads
from ..ablation.changes import changed
from ..errors import OcclabError
from ..losses import OccupancyLoss
from ..settings import PROFILES, Profile, profile
from ..training import TrainConfig, fast_precision
from ..training import preset as start_of

Choice = str | int | float
"""The label of a level, or a number."""
Choices = Mapping[str, Choice]
"""Label of a knob -> what it is set to."""


@dataclass(frozen=True)
class Knob:
    """One thing to set: levels with a label each, or a number between two ends."""

    label: str
    group: str
    what: str
    """What it does, in a sentence or two."""
    levels: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Label -> settings by dotted name, all levels the same ones; empty for a number. The first is as it stood."""
    setting: str = ""
    """The dotted name of a number."""
    low: float = 0
    high: float = 0
    """The ends of a number's range; both whole where only whole numbers fit."""
    arms: Mapping[str, str] = field(default_factory=dict)
    """What was set -> the arm of the recorded table ``claims`` that did only that."""
    factor: tuple[str, str] | None = None
    """The factor of the recorded ``factorial`` that holds it, and what that sets."""

    def changes(self, choice: Choice) -> dict[str, Any]:
        """Settings by dotted name.

        Raises:
            OcclabError: no such level.
        """
        if not self.levels:
            return {self.setting: choice}
        if choice not in self.levels:
            raise OcclabError(f"{self.label} must be one of {', '.join(self.levels)}, got {choice!r}")
        return dict(self.levels[str(choice)])


@dataclass(frozen=True)
class Preset:
    """Where to start from."""

    what: str
    choices: Choices = field(default_factory=dict)
    """Knobs that differ from the start."""
    start: str = "as-it-stood"
    """A preset of the library."""
    arm: tuple[str, str] | None = None
    """Table and arm of the recorded runs that were trained so."""


def _loss(**weights: float) -> dict[str, Any]:
    loss = OccupancyLoss(**({"bce": 0, "dice": 0} | weights))
    return {f"loss.{f.name}": getattr(loss, f.name) for f in fields(loss) if f.name != "height_weights"}


def _one(setting: str, **levels: Any) -> dict[str, dict[str, Any]]:
    return {label: {setting: value} for label, value in levels.items()}


OUTPUT, OPTIMISER, AUGMENTATION = "output head and targets", "optimiser", "data augmentation"
LOSS, NETWORK, SIZE = "loss", "network", "size and seed"
_HEIGHTS = TrainConfig().grid.shape[0]
_RATES = ("1e-4", "3e-4", "5e-4", "1e-3", "3e-3", "1e-2", "0.1")

KNOBS: tuple[Knob, ...] = (
    Knob(
        "head",
        OUTPUT,
        "What stands after the last convolution. Rectified: BatchNorm and ReLU, as it stood, so that no probability can go "
        "under 1/2. Logits: nothing.",
        _one("model.head", rectified="rectified", logits="logits"),
    ),
    Knob(
        "output prior",
        OUTPUT,
        "The probability that the network predicts everywhere before its first step. Measured: the mean of the targets.",
        {"none": {"output_prior": None}, "0.1": {"output_prior": 0.1}, "measured": {"output_prior": "measured"}},
        arms={"0.1": "output bias for p = 0.1"},
        factor=("prior 0.1", "0.1, with Kaiming"),
    ),
    Knob(
        "prior set in",
        OUTPUT,
        "Where the output prior is set: in the bias of the last convolution, which the BatchNorm of a rectified head subtracts "
        "away again, or in that BatchNorm.",
        _one("prior_in", convolution="convolution", norm="norm"),
    ),
    Knob(
        "targets",
        OUTPUT,
        "What is to be predicted. Soft: nearer to 1 the more points a voxel holds. Hard: 1 wherever it holds any.",
        _one("targets", soft="soft", hard="hard"),
        arms={"hard": "hard targets"},
    ),
    Knob(
        "optimiser",
        OPTIMISER,
        "AdamW divides each gradient by its own running size. SGD follows the size of the gradient, and wants rates of "
        "about 0.1.",
        {
            "AdamW": {"optimizer": "adamw", "momentum": 0.9, "adam_epsilon": 1e-8},
            "SGD": {"optimizer": "sgd", "momentum": 0.9, "adam_epsilon": 1e-8},
        },
    ),
    Knob(
        "learning rate",
        OPTIMISER,
        "How far a step goes. It can also be moved while the training runs.",
        {rate: {"learning_rate": float(rate)} for rate in _RATES},
        arms={"1e-3": "learning rate 1e-3", "5e-4, warm-up": "learning rate 5e-4 with warm-up"},
        factor=("rate 1e-3", "1e-3"),
    ),
    Knob(
        "warm-up steps",
        OPTIMISER,
        "Steps over which the learning rate rises from a third of its value.",
        setting="warmup_steps",
        high=10_000,
        arms={"20 steps, at 5e-4": "learning rate 5e-4 with warm-up"},
    ),
    Knob(
        "schedule",
        OPTIMISER,
        "The learning rate after the warm-up. Cosine: down to a thousandth at the last step. One-cycle: up from a 25th, "
        "then down to almost nothing.",
        {name: {"schedule": name} for name in ("constant", "cosine", "one-cycle")},
    ),
    Knob(
        "clipping norm",
        OPTIMISER,
        "Gradients of a larger norm are scaled down to it.",
        {"0.1": {"clip_norm": 0.1}, "1": {"clip_norm": 1.0}, "10": {"clip_norm": 10.0}, "none": {"clip_norm": None}},
        arms={"1": "clipping at 1", "10": "clipping at 10"},
        factor=("clip at 10", "10"),
    ),
    Knob(
        "rates by layer",
        OPTIMISER,
        "One rate for all, or each stage at 0.8 of the rate of the stage behind it, the head at the whole.",
        {"one for all": {"layer_decay": 1.0}, "0.8 a stage": {"layer_decay": 0.8}},
        arms={"0.8 a stage": "layer-wise rates"},
    ),
    Knob(
        "refinement",
        OPTIMISER,
        "The learning rate of the two convolutions before the head, by custom_keys.",
        {"1 x the rate": {"custom_keys": {}}, "10 x the rate": {"custom_keys": {"refine": {"lr_mult": 10.0}}}},
        arms={"10 x the rate": "10 x the rate for the refinement"},
    ),
    Knob(
        "turns, degrees",
        AUGMENTATION,
        "Whole frames are turned about the vertical by a random angle of up to so many degrees either way.",
        setting="rotation",
        high=180.0,
        arms={"10 degrees": "rotations"},
    ),
    Knob(
        "flips",
        AUGMENTATION,
        "Whole frames are mirrored along x and y at random.",
        _one("flip", no=False, yes=True),
        arms={"yes": "flips"},
    ),
    Knob(
        "loss",
        LOSS,
        "What is made small. Focal: cross-entropy that weighs sure answers down. Its value is another currency; compare each "
        "with its own value at p = 1/2.",
        {
            "BCE + 0.5 Dice": _loss(bce=1, dice=0.5),
            "BCE + Dice": _loss(bce=1, dice=1),
            "BCE + 2 Dice": _loss(bce=1, dice=2),
            "focal": _loss(focal=1),
            "focal + Dice": _loss(focal=1, dice=1),
        },
        arms={"BCE + Dice": "Dice weight 1", "BCE + 2 Dice": "Dice weight 2", "focal": "focal loss"},
        factor=("focal loss", "focal"),
    ),
    Knob(
        "height weights",
        LOSS,
        "How much each height counts in the loss: all alike, or the lower half three times as much.",
        {
            "all alike": {"loss.height_weights": None},
            "low ones 3 x": {"loss.height_weights": (3.0,) * (_HEIGHTS // 2) + (1.0,) * (_HEIGHTS - _HEIGHTS // 2)},
        },
        arms={"low ones 3 x": "low heights weigh 3"},
    ),
    Knob(
        "depth",
        NETWORK,
        "Channels of the encoder's stages, 2 to 4 of them, before the width of the size; each stage halves the resolution.",
        {f"256 to {256 * 2 ** (n - 1)}": {"model.channels": tuple(256 * 2**i for i in range(n))} for n in (2, 3, 4)},
        arms={"256 to 2048": "deeper"},
        factor=("deeper", "3 stages, residual"),
    ),
    Knob(
        "blocks",
        NETWORK,
        "Two convolutions each; residual ones add a shortcut around them.",
        _one("model.block", plain="plain", residual="residual"),
        arms={"residual": "residual blocks"},
    ),
    Knob(
        "attention",
        NETWORK,
        "After each stage. Channel: squeeze-and-excitation. Spatial: the spatial half of CBAM. Both: one, then the other.",
        {name: {"model.attention": name} for name in ("none", "channel", "spatial", "both")},
        arms={"both": "attention"},
    ),
    Knob(
        "stem and head",
        NETWORK,
        "Channels of the first layer, and of the last but one, before the width of the size. The output has 32.",
        {
            "128 and 64": {"model.stem": 128, "model.head_channels": 64},
            "256 and 256": {"model.stem": 256, "model.head_channels": 256},
        },
    ),
    Knob(
        "skips meet",
        NETWORK,
        "Where a decoder meets its skip: at full resolution, or at half of it, which is a third cheaper.",
        {"full size": {"model.skip": "full"}, "half size": {"model.skip": "half"}},
    ),
    Knob(
        "initialisation",
        NETWORK,
        "How the first weights are drawn; default: as PyTorch does.",
        {"default": {"init": "default"}, "Kaiming": {"init": "kaiming"}, "Xavier": {"init": "xavier"}},
        arms={"Kaiming": "Kaiming initialisation", "Xavier": "Xavier initialisation"},
    ),
    Knob(
        "BN momentum",
        NETWORK,
        "How fast BatchNorm's running averages follow, which model.eval() uses: over 100 steps with 0.01, 10 with 0.1.",
        {"0.01": {"model.bn_momentum": 0.01}, "0.1": {"model.bn_momentum": 0.1}},
    ),
    Knob("batch size", SIZE, "Frames a step.", setting="batch_size", low=1, high=64),
    Knob("steps", SIZE, "Updates of the weights.", setting="steps", low=1, high=100_000),
    Knob("seed", SIZE, "Of the initial weights, the order of the frames and the augmentation.", setting="seed", high=9999),
)

PRESETS: dict[str, Preset] = {
    "as it stood": Preset("The training that stalled."),
    "learning rate": Preset(
        "The first proposal: 1e-3 with warm-up, and ten times that for the refinement.",
        {"learning rate": "1e-3", "warm-up steps": 20, "refinement": "10 x the rate"},
        arm=("five_fixes", "head=rectified: learning rate"),
    ),
    "clipping": Preset("The second: clip at 10.", {"clipping norm": "10"}, arm=("five_fixes", "head=rectified: clipping")),
    "focal loss": Preset("The third: focal loss.", {"loss": "focal"}, arm=("five_fixes", "head=rectified: focal loss")),
    "initialisation": Preset(
        "The fourth: Kaiming, and an output bias that predicts 0.1.",
        {"initialisation": "Kaiming", "output prior": "0.1"},
        arm=("five_fixes", "head=rectified: initialisation"),
    ),
    "depth": Preset(
        "The fifth: four stages of residual blocks, with attention.",
        {"depth": "256 to 2048", "blocks": "residual", "attention": "both"},
        arm=("five_fixes", "head=rectified: depth"),
    ),
    "all fixes": Preset(
        "Everything that was proposed, at once, on the head as it stood.",
        {
            "learning rate": "1e-3",
            "warm-up steps": 20,
            "refinement": "10 x the rate",
            "rates by layer": "0.8 a stage",
            "clipping norm": "10",
            "loss": "focal + Dice",
            "height weights": "low ones 3 x",
            "depth": "256 to 2048",
            "blocks": "residual",
            "attention": "both",
            "initialisation": "Kaiming",
            "output prior": "0.1",
            "targets": "hard",
            "turns, degrees": 10.0,
            "flips": "yes",
        },
        arm=("claims", "head=rectified: all of them"),
    ),
    "logits instead": Preset(
        "As it stood, but for the head: bare logits.", {"head": "logits"}, arm=("claims", "head=logits: as it stood")
    ),
    "repaired": Preset(
        "Bare logits and a learning rate of 1e-3.", start="repaired", arm=("claims", "head=logits: learning rate 1e-3")
    ),
    "recommended": Preset(
        "What the course arrives at; it takes more streets and steps.",
        start="recommended",
    ),
}


def sizes() -> dict[str, Profile]:
    """What a run can measure: grid, width of the network, steps."""
    return {
        "tiny": PROFILES["tiny"].for_sweeps(),
        "small, cells of 1.2 m": PROFILES["small"].for_sweeps(),
        "small": PROFILES["small"],
        "full": PROFILES["full"].for_sweeps(),
    }


def default_size() -> str:
    """The size that suits this machine."""
    wanted = profile().for_sweeps()
    return next(label for label, size in sizes().items() if size == wanted)


def size_of(preset: str, size: Profile) -> Profile:
    """The size of a preset's run: the recommended recipe takes more frames and steps."""
    return size.for_recipe() if PRESETS[preset].start == "recommended" else size


def settings(preset: str, size: Profile, choices: Choices) -> TrainConfig:
    """The configuration of a preset at a size, with some knobs turned.

    Raises:
        OcclabError: settings that contradict each other, in the library's own sentence; no such level.
    """
    chosen = PRESETS[preset]
    start = start_of(chosen.start, size_of(preset, size), precision=fast_precision())
    return turned(start, dict(chosen.choices) | dict(choices))


def turned(config: TrainConfig, choices: Choices) -> TrainConfig:
    """A configuration with some knobs turned, all at once, and with its moments of looking spread over its steps.

    Raises:
        OcclabError: settings that contradict each other; no such knob or level.
    """
    changes: dict[str, Any] = {}
    for label, choice in choices.items():
        changes |= knob(label).changes(choice)
    seed = changes.pop("seed", config.seed)  # which an arm may not change
    made = replace(changed(config, changes), seed=seed)
    return replace(made, snapshot_steps=moments(made.steps))


def knob(label: str) -> Knob:
    """The knob of that label."""
    found = next((knob for knob in KNOBS if knob.label == label), None)
    if found is None:
        raise OcclabError(f"no knob {label!r}; there are {', '.join(knob.label for knob in KNOBS)}")
    return found


def choices_of(config: TrainConfig) -> dict[str, Choice]:
    """What every knob is set to. One that is at none of its levels is left out."""
    found: dict[str, Choice] = {}
    for each in KNOBS:
        if each.levels:
            level = next((label for label, changes in each.levels.items() if _holds(config, changes)), None)
            if level is not None:
                found[each.label] = level
        else:
            found[each.label] = _value(config, each.setting)
    return found


def _holds(config: TrainConfig, changes: Mapping[str, Any]) -> bool:
    return all(_value(config, name) == value for name, value in changes.items())


def _value(config: Any, name: str) -> Any:
    for part in name.split("."):
        config = getattr(config, part)
    return config


def moments(steps: int) -> tuple[int, ...]:
    """Some twelve steps at which to keep the prediction: early ones close together, where most happens."""
    return both_heads.moments(steps, (0, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.35, 0.5, 0.65, 0.8, 1))
