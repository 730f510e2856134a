"""The network of a run before its first step."""

import torch

from ..models import OccupancyUNet, initialise, set_output_prior, zero_last
from .config import TrainConfig
from .data import Batches, stream


def build_model(config: TrainConfig, batches: Batches) -> OccupancyUNet:
    """The network with its initial weights, on the CPU. The caller's random numbers are left alone.

    Args:
        batches: the training frames, for a measured output prior.
    """
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which seeds every GPU's generator too, and those are not put back.
        torch.default_generator.manual_seed(stream(config.seed, "init").initial_seed())
        model = OccupancyUNet(config.model)
        initialise(model, config.init)
    if config.zero_last:
        zero_last(model)
    if config.output_prior is not None:
        p = mean_target(batches) if config.output_prior == "measured" else config.output_prior
        set_output_prior(model, p, config.prior_in)
    return model


def mean_target(batches: Batches) -> float:
    """The mean training target over all valid cells: the probability that, predicted everywhere, costs the least
    cross-entropy."""
    target, mask = batches.targets()
    return float((target if mask is None else target[mask]).mean(dtype=torch.float64))
