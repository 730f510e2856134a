"""What there is to say about a set-up: the configuration in words, what has no effect in it, what the recorded runs found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from ..ablation import Comparison, Row, by_arm, compare, compare_arms, effects_of, parse_design, recorded_about, recorded_table
from ..ablation.both_heads import HEADS
from ..ablation.rows import parameters
from ..ablation.scorecard import BASE
from ..errors import OcclabError
from ..training import TrainConfig
from .knobs import KNOBS, PRESETS, SIZE, Choice, choices_of

NOT_RECORDED = "not among the recorded runs"
IN_FACTORIAL = "AP in the factorial"
_parameters = lru_cache(maxsize=64)(parameters)
_TERMS = {"bce": "BCE", "focal": "focal", "dice": "Dice", "tversky": "Tversky", "lovasz": "Lovász"}


@dataclass(frozen=True)
class Gain:
    """What a change did in the recorded runs, on streets held out."""

    of: str
    """What was set."""
    measure: str
    by_head: Mapping[str, Comparison]
    """Against the same training without the change, seed by seed. The head is ``""`` where both play a part."""


# --- the configuration in words ---------------------------------------------------------------------------------------


def in_words(config: TrainConfig) -> str:
    """The configuration in two sentences."""
    model, loss = config.model, config.loss
    output = "rectified output" if model.head == "rectified" else "bare logits"
    if config.output_prior is not None:
        output += (
            " with the measured prior" if config.output_prior == "measured" else f" with a prior of {config.output_prior:g}"
        )
    attention = "" if model.attention == "none" else f" with attention ({model.attention})"
    weights = {words: getattr(loss, name) for name, words in _TERMS.items()}
    terms = " + ".join(words if weight == 1 else f"{weight:g} {words}" for words, weight in weights.items() if weight)
    clip = "no clipping" if config.clip_norm is None else f"clipped at {config.clip_norm:g}"
    warmup = f", {config.warmup_steps} steps of warm-up" if config.warmup_steps else ""
    schedule = "" if config.schedule == "constant" else f", {config.schedule}"
    moved = [*(["flipped"] if config.flip else []), *(["turned"] if config.rotation or config.quarter_turns else [])]
    optimiser = "AdamW" if config.optimizer == "adamw" else "SGD"
    frames = f"{config.batch_size} frame{'s' * (config.batch_size > 1)} a step" + ", " * bool(moved) + " and ".join(moved)
    return (
        f"{len(model.channels)} stages of {model.block} blocks{attention}, {output}, {_parameters(model):,} parameters; "
        f"cells of {config.grid.voxel_size[0]:g} m. Loss {terms} on {config.targets} targets; "
        f"{optimiser} at {rate(config.learning_rate)}{warmup}{schedule}, {clip}; {frames}."
    )


def rate(value: float) -> str:
    """A learning rate as people write it.

    >>> rate(0.0005), rate(0.1)
    ('5e-4', '0.1')
    """
    digits, _, power = f"{value:e}".partition("e")
    return f"{value:g}" if value >= 0.1 else f"{float(digits):g}e{int(power)}"


def differences(config: TrainConfig) -> dict[str, Choice]:
    """The knobs that are not as they stood, and what they are set to; without those of the size."""
    stood, now = choices_of(TrainConfig()), choices_of(config)
    inside = [knob.label for knob in KNOBS if knob.group != SIZE]
    return {label: now.get(label, "another value") for label in inside if now.get(label) != stood[label]}


def remarks(config: TrainConfig) -> list[str]:
    """Settings that fit each other and yet do nothing, or harm, with the reason."""
    found = []
    rectified, prior = config.model.head == "rectified", config.output_prior
    if rectified and prior is not None and config.prior_in == "convolution":
        found.append(
            "The output prior changes nothing here: it is set in the bias of the last convolution, and the BatchNorm behind it "
            "subtracts every bias away. Set it in the norm, or choose the head of logits."
        )
    if rectified and config.prior_in == "norm" and prior is not None and (prior == "measured" or prior < 0.5):
        found.append(
            "A prior under 1/2 shifts what enters the last ReLU below 0: most outputs then pass no gradient back, and the "
            "network may never move. The head of logits has no such ReLU."
        )
    if config.optimizer == "sgd" and config.learning_rate < 0.01:
        found.append("SGD follows the size of the gradient, which is small here: at this rate it hardly moves. Try 0.1.")
    return found


# --- what the recorded runs say ---------------------------------------------------------------------------------------


@cache
def gains() -> dict[str, list[Gain]]:
    """What each knob and each preset did, by its label; empty where the recorded tables are not on this machine.

    It takes some tenths of a second, once.
    """
    try:
        tables = {name: recorded_table(name) for name in ("claims", "factorial", "five_fixes")}
        design = parse_design(str(recorded_about("factorial")["design"]), "the recorded factorial")
    except OcclabError:
        return {}
    alone = compare_arms(tables["claims"], "held_out_iou", True)
    effects = effects_of(design, tables["factorial"], "held_out_average_precision", True)
    of_factor = {(group, effect.name): effect.comparison for group, all_ in effects.items() for effect in all_}
    found: dict[str, list[Gain]] = {knob.label: [] for knob in KNOBS}
    for knob in KNOBS:
        for of, arm in knob.arms.items():
            found[knob.label].append(Gain(of, "IoU", {head: alone[f"head={head}: {arm}"] for head in HEADS}))
        if knob.factor is not None:
            name, of = knob.factor
            by_head = {head: of_factor[f"head={head}", name] for head in HEADS}
            found[knob.label].append(Gain(of, IN_FACTORIAL, by_head))
    stood = _ious(tables["claims"], f"head=rectified: {BASE}")
    instead = compare(stood, _ious(tables["claims"], f"head=logits: {BASE}"), higher_is_better=True)
    found["head"] = [Gain("logits", "IoU", {"": instead}), Gain("logits", IN_FACTORIAL, {"": of_factor["all", "head"]})]
    for name, preset in PRESETS.items():
        if preset.arm is not None:
            table, arm = preset.arm
            base = stood if table == "claims" else _ious(tables[table], "head=rectified: base")
            gain = compare(base, _ious(tables[table], arm), higher_is_better=True)
            found[f"preset {name}"] = [Gain(name, "IoU", {"": gain})]
    return found


def _ious(rows: Sequence[Row], arm: str) -> Mapping[int, float | None]:
    return by_arm(rows, "held_out_iou")[arm]


def gain_in_words(gain: Comparison) -> str:
    """The mean difference and its interval: ``+0.053 (+0.017 to +0.124)``."""
    if gain.difference is None:
        return "no number"
    if gain.low is None or gain.high is None:
        return f"{gain.difference:+z.3f}"
    return f"{gain.difference:+z.3f} ({gain.low:+z.3f} to {gain.high:+z.3f})"


def recorded_in_words(found: Sequence[Gain] | None) -> str:
    """What the recorded runs say of a knob, as text of several lines; None where there are no tables of them."""
    if found is None:
        return "Recorded: the tables of the recorded runs are not on this machine."
    if not found:
        return f"Recorded: {NOT_RECORDED}."
    lines = ["Recorded change on streets held out, with its 95 % interval over the seeds:"]
    for gain in found:
        each = [f"{gain_in_words(c)}{' with ' * bool(head)}{head}" for head, c in gain.by_head.items()]
        lines.append(f"{gain.of}, {gain.measure}: {'; '.join(each)}")
    return "\n".join(lines)
