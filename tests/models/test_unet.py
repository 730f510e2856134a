"""The network: the one of the record to the parameter, and what its head can and cannot say."""

import pytest
import torch
from torch import nn

from occlab import OcclabError, OccupancyUNet, UNetConfig

TINY = {"width": 1 / 16}


def count(model):
    return sum(p.numel() for p in model.parameters())


def test_shallow_has_the_recorded_number_of_parameters():
    assert count(OccupancyUNet()) == 6_832_928


def test_shallow_layer_by_layer():
    convolutions = [m for m in OccupancyUNet().modules() if isinstance(m, nn.Conv2d)]
    shapes = [(m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0], m.bias is not None) for m in convolutions]
    assert shapes == [
        (256, 128, 1, 1, True),
        (128, 128, 3, 1, True),
        (128, 256, 3, 1, True),
        (256, 512, 3, 2, True),
        (512, 512, 3, 1, True),
        (768, 256, 3, 1, True),
        (256, 256, 3, 1, True),
        (256, 128, 3, 1, True),
        (128, 128, 3, 1, True),
        (128, 64, 1, 1, True),
        (64, 32, 1, 1, True),
    ]
    norms = [m for m in OccupancyUNet().modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 10  # every convolution but the first
    assert {(m.eps, m.momentum) for m in norms} == {(1e-3, 0.01)}


def test_a_rectified_head_cannot_go_below_one_half_and_a_bare_one_can():
    torch.manual_seed(0)
    features = torch.randn(1, 256, 16, 20)
    rectified, logits = (
        torch.sigmoid(OccupancyUNet(UNetConfig(head=head, **TINY))(features)) for head in ("rectified", "logits")
    )
    assert rectified.min() == 0.5
    assert logits.min() < 0.5


def test_no_weight_can_push_a_rectified_head_below_one_half():
    torch.manual_seed(0)
    model = OccupancyUNet(UNetConfig(**TINY))
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.normal_(std=10)
        model.head[-2].bias.fill_(-1000)  # BatchNorm's shift, before the ReLU
    assert torch.sigmoid(model(torch.randn(1, 256, 8, 8))).min() == 0.5


@pytest.mark.parametrize(
    ("channels", "size"),
    [((256, 512), (18, 18)), ((256, 512), (17, 23)), ((256, 512), (2, 2)), ((128, 256, 512), (17, 23)), ((64,), (1, 1))],
)
def test_output_has_the_grid_of_the_input(channels, size):
    model = OccupancyUNet(UNetConfig(channels=channels, **TINY)).eval()
    assert model(torch.zeros(2, 256, *size)).shape == (2, 32, *size)


def test_every_parameter_gets_a_gradient():
    torch.manual_seed(0)
    model = OccupancyUNet(UNetConfig(head="logits", **TINY))
    model(torch.randn(2, 256, 12, 12)).square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_width_scales_every_inner_layer():
    full, quarter = (
        [m.out_channels for m in OccupancyUNet(UNetConfig(width=w)).modules() if isinstance(m, nn.Conv2d)] for w in (1, 0.25)
    )
    assert [4 * c for c in quarter[:-1]] == full[:-1]
    assert quarter[-1] == full[-1] == 32  # heights are not scaled


@pytest.mark.parametrize(
    "arguments", [{"head": "sigmoid"}, {"channels": ()}, {"width": 0}, {"in_channels": 0}, {"channels": (8, -1)}]
)
def test_impossible_networks_are_refused(arguments):
    with pytest.raises(OcclabError, match="UNetConfig"):
        UNetConfig(**arguments)


def test_wrong_input_names_the_expected_shape():
    with pytest.raises(OcclabError, match=r"expects \(B, 256, Y, X\), got \(1, 255, 8, 8\)"):
        OccupancyUNet(UNetConfig(**TINY))(torch.zeros(1, 255, 8, 8))


@pytest.mark.parametrize("change", [{"bn_momentum": 1.5}, {"bn_momentum": True}, {"bn_eps": True}, {"width": float("nan")}])
def test_what_is_no_such_number_is_one_sentence(change):
    (name,) = change
    with pytest.raises(OcclabError, match=rf"UNetConfig\.{name} must be a (finite )?number above 0"):
        UNetConfig(**change)
