"""Which of a log's curves is the loss, which the learning rate, which the gradient norm; which belong to validation.

A name is compared by its words: lower case, without "train", repeated words once. So ``train/loss``, ``Loss/train``,
``trainLoss`` and ``Loss_train/Loss`` are all "loss".
"""

import re
from collections.abc import Mapping

TRAINING_WORDS = {"train", "training", "trn"}
VALIDATION_WORDS = {"val", "valid", "validation", "test", "eval"}

LOSS = (
    *("loss_step", "batch_loss", "loss", "total_loss_step", "total_loss", "loss_total_step", "loss_total", "loss_all"),
    *("loss_epoch", "epoch_loss", "total_loss_epoch", "loss_total_epoch"),
)
"""The order in which a name is taken for the training loss: each step's own before the total of a row before the mean of an
epoch. Where none of these is there, the one name with the word "loss"; where there are several, none."""

LEARNING_RATE = ("lr", "learning_rate", "lr_step", "learning_rate_step")
"""Then names that begin with these (``lr-AdamW/pg1``, ``lr_backbone``), in alphabetical order; then ``base_lr``."""

GRADIENT_NORM = (
    *("grad_norm", "gradient_norm", "grad_norm_step", "gradient_norm_step", "global_grad_norm", "grad_global_norm"),
    *("total_grad_norm", "grad_norm_total", "grad_total_norm", "grad_2_0_norm_total", "grad_2_norm_total", "gnorm"),
)
"""The last three are Lightning's ``track_grad_norm`` and fairseq's."""


def words(name: str) -> list[str]:
    """The words of a name, lower case; one that comes again at once is left out."""
    split = [word for word in re.split(r"[^a-z0-9]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower()) if word]
    return [word for i, word in enumerate(split) if i == 0 or word != split[i - 1]]


def is_validation(name: str) -> bool:
    """Whether a curve belongs to validation by its name."""
    return not VALIDATION_WORDS.isdisjoint(words(name))


def recognise(lengths: Mapping[str, int]) -> tuple[dict[str, str], list[str]]:
    """The log's own names for "loss", "learning_rate" and "gradient_norm", as far as they are there, and notes.

    Args:
        lengths: the number of rows of each training curve.
    """
    plain: dict[str, list[str]] = {}
    for name in sorted(lengths, key=lambda name: (-lengths[name], name)):  # of equals the longest
        plain.setdefault(_plain(name), []).append(name)
    found: dict[str, str] = {}
    notes: list[str] = []

    def take(noun: str, names: list[str]) -> None:
        found[noun] = names[0]
        if len(names) > 1:
            notes.append(f"{noun} is read from {names[0]}; {', '.join(names[1:4])} could be meant as well.")

    for noun, order in (("loss", LOSS), ("learning_rate", LEARNING_RATE), ("gradient_norm", GRADIENT_NORM)):
        first = next((key for key in order if key in plain), None)
        if first is not None:
            take(noun, plain[first])
    if "loss" not in found:
        terms = sorted(name for name in lengths if "loss" in words(name))
        if len(terms) == 1:
            take("loss", terms)
        elif terms:
            notes.append(f"No total loss was found, only {', '.join(terms[:4])}; none of them is read as the loss.")
    if "learning_rate" not in found:
        groups = sorted(name for key, names in plain.items() for name in names if key.startswith(("lr_", "learning_rate_")))
        if groups or "base_lr" in plain:
            take("learning_rate", groups or plain["base_lr"])
    return found, notes


def _plain(name: str) -> str:
    kept = [word for word in words(name) if word not in TRAINING_WORDS]
    return "_".join(word for i, word in enumerate(kept) if i == 0 or word != kept[i - 1])
