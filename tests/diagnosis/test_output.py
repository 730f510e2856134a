"""How far an output goes, against closed forms and the two heads of the course."""

import copy
import math

import pytest
import torch
from torch import nn

from occlab.diagnosis import output_reach
from occlab.errors import OcclabError
from occlab.models import OccupancyUNet, UNetConfig


def network(head):
    torch.manual_seed(0)
    return OccupancyUNet(UNetConfig(in_channels=8, out_channels=4, width=1 / 16, head=head))


INPUTS = torch.randn(1, 8, 12, 12, generator=torch.Generator().manual_seed(1))


def test_a_rectified_output_never_goes_under_a_half():
    reach = output_reach(network("rectified"), INPUTS)
    assert (reach.layer, reach.convolution) == ("head.4", "head.3")  # a BatchNorm's shift; the convolution before it
    assert [p.push for p in reach.pushes] == [-20, -5, 0, 5, 20]
    down = reach.pushes[0]
    assert (down.lowest, down.highest, down.mean) == (0.5, 0.5, 0.5)  # pushed down, it dies
    assert reach.lowest == 0.5
    assert reach.highest > 0.999
    assert not reach.convolution_matters
    assert 0.2 < reach.share_zero < 0.8


def test_logits_go_anywhere():
    reach = output_reach(network("logits"), INPUTS)
    assert reach.layer == reach.convolution == "head.3"
    assert reach.convolution_pushes == reach.pushes
    assert reach.lowest < 1e-6
    assert reach.highest > 1 - 1e-6
    assert reach.convolution_matters
    assert reach.share_zero == 0
    means = [p.mean for p in reach.pushes]
    assert means == sorted(means)


def test_pushes_in_closed_form():
    model = nn.Linear(1, 1)
    nn.init.constant_(model.weight, 2.0)
    nn.init.constant_(model.bias, 1.0)
    [up] = output_reach(model, torch.tensor([[0.0], [1.0]]), pushes=[0.5]).pushes
    low, high = (1 / (1 + math.exp(-x)) for x in (1.5, 3.5))
    assert (up.lowest, up.highest, up.mean) == pytest.approx((low, high, (low + high) / 2))


def test_the_last_layer_is_the_last_to_be_called():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.first = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x):
            return self.last(self.first(x))

    assert output_reach(Backwards(), torch.ones(1, 2)).layer == "last"


def test_a_norm_without_a_convolution_and_zeros():
    model = nn.Sequential(nn.BatchNorm1d(2), nn.ReLU())
    nn.init.constant_(model[0].bias, -100.0)
    reach = output_reach(model, torch.randn(8, 2), pushes=[0.0, 1.0])
    assert (reach.layer, reach.convolution, reach.convolution_pushes) == ("0", None, ())
    assert reach.share_zero == 1
    assert not reach.convolution_matters


def test_the_model_is_left_as_it_was():
    model = nn.Sequential(nn.Dropout(0.5), network("rectified")).eval()
    kept, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    assert output_reach(model, INPUTS) == output_reach(model, INPUTS)
    assert all(torch.equal(kept[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(m.training or m._forward_hooks for m in model.modules())


@pytest.mark.parametrize(
    ("model", "pushes", "words"),
    [
        (nn.Linear(2, 2, bias=False), (0,), "a bias to push"),
        (nn.Linear(2, 2), (), "at least one push"),
        (nn.Linear(2, 2), (math.inf,), "finite"),
        (nn.LSTM(2, 2), (0,), "one tensor of finite logits, got tuple"),
    ],
)
def test_what_cannot_be_pushed_is_refused(model, pushes, words):
    with pytest.raises(OcclabError, match=words):
        output_reach(model, torch.ones(1, 2), pushes=pushes)


def test_logits_that_are_not_finite_are_refused():
    model = nn.Linear(1, 1)
    nn.init.constant_(model.weight, float("nan"))
    with pytest.raises(OcclabError, match="not finite"):
        output_reach(model, torch.ones(1, 1))
