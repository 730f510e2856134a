"""A network with a module exchanged is trained once, and found again as it was."""

import torch
from torch import nn

from occlab.training import Batches, build_model, train_operated, training_steps


def operated(config, frames, module):
    torch.manual_seed(0)
    model = build_model(config, Batches(frames, config))
    model.head[5] = module
    return model


def test_it_trains_once_and_what_is_found_is_what_was_trained(frames, config, tmp_path):
    first, again, plain = (operated(config, frames, nn.Softplus()) for _ in range(3))
    steps = train_operated(first, config, frames, name="softplus", root=tmp_path)
    assert [s.loss for s in steps] == [s.loss for s in training_steps(plain, Batches(frames, config), config)]
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    assert train_operated(again, config, frames, name="softplus", root=tmp_path) == steps
    assert written == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    for found, trained in zip(again.state_dict().values(), plain.state_dict().values(), strict=True):
        assert torch.equal(found, trained)


def test_another_module_or_other_weights_are_another_training(frames, config, tmp_path):
    for model in (operated(config, frames, nn.Softplus()), operated(config, frames, nn.Identity())):
        train_operated(model, config, frames, name="x", root=tmp_path)
    other = operated(config, frames, nn.Softplus())
    with torch.no_grad():
        next(other.parameters()).mul_(1.5)
    train_operated(other, config, frames, name="x", root=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
