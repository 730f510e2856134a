"""The network before its first step: the same as ever by default, and what each setting makes of it."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from occlab import OccupancyUNet
from occlab.training import Batches, build_model, train
from occlab.training.build import mean_target
from occlab.training.data import stream


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def convolutions(model):
    return [m for m in model.modules() if isinstance(m, nn.Conv2d)]


def test_by_default_the_weights_are_pytorchs_from_the_seeds_own_stream(frames, config):
    batches = Batches(frames, config)
    torch.manual_seed(stream(config.seed, "init").initial_seed())
    expected = OccupancyUNet(config.model)
    assert same(build_model(config, batches), expected)
    assert not same(build_model(replace(config, seed=1), batches), expected)


def test_the_callers_random_numbers_are_left_alone(frames, config):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    build_model(replace(config, init="kaiming"), Batches(frames, config))
    assert torch.equal(torch.rand(4), expected)


def test_the_generators_of_gpus_are_left_alone(frames, config, monkeypatch):
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda _: pytest.fail("seeded"))
    build_model(config, Batches(frames, config))


def test_train_starts_from_it(frames, config, tmp_path):
    config = replace(config, steps=1, learning_rate=1e-30, weight_decay=0.0, init="kaiming", output_prior=0.2)
    run = train(config, frames, root=tmp_path, progress=False)
    expected = build_model(config, Batches(frames, config))
    for a, b in zip(run.model().parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-20)


def test_a_scheme_is_drawn_from_the_same_seed_each_time(frames, config):
    batches = Batches(frames, config)
    kaiming, xavier = (replace(config, init=scheme) for scheme in ("kaiming", "xavier"))
    assert same(build_model(kaiming, batches), build_model(kaiming, batches))
    assert not same(build_model(kaiming, batches), build_model(xavier, batches))
    fan_out = convolutions(build_model(kaiming, batches))[1]
    assert fan_out.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * fan_out.out_channels)), rel=0.1)


def test_an_output_prior_is_what_a_free_head_predicts_first(frames, config):
    config = replace(config, model=replace(config.model, head="logits"), zero_last=True, output_prior=0.03)
    batches = Batches(frames, config)
    model = build_model(config, batches)
    assert not convolutions(model)[-1].weight.any()
    p = torch.sigmoid(model(batches[0].features))
    torch.testing.assert_close(p, torch.full_like(p, 0.03))


def test_a_prior_in_the_norm_moves_the_rectified_heads_shift(frames, config):
    config = replace(config, output_prior=0.9, prior_in="norm")
    norm = [m for m in build_model(config, Batches(frames, config)).modules() if isinstance(m, nn.BatchNorm2d)][-1]
    torch.testing.assert_close(norm.bias, torch.full_like(norm.bias, math.log(9)))


def test_a_measured_prior_is_the_mean_target_where_cells_count(frames, config, forward_view):
    config = replace(config, model=replace(config.model, head="logits"), output_prior="measured")
    seen = [replace(frames[0], view=(forward_view,)), frames[1]]
    batches = Batches(seen, config)
    cells = [batch.target[batch.mask] if batch.mask is not None else batch.target.flatten() for batch in batches]
    expected = torch.cat(cells).double().mean().item()
    assert mean_target(batches) == pytest.approx(expected, rel=1e-9)
    assert expected != pytest.approx(mean_target(Batches(frames[:2], config)), rel=0.01)
    bias = convolutions(build_model(config, batches))[-1].bias
    torch.testing.assert_close(torch.sigmoid(bias), torch.full_like(bias, expected))
