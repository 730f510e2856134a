"""The U-Net's options: the default is untouched by them, each one does something, all go together, and what each costs."""

from itertools import combinations, product

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from occlab import OcclabError, OccupancyUNet, UNetConfig
from occlab.models.blocks import ChannelAttention

BN = {"eps": 1e-3, "momentum": 0.01}
OPTIONS = [
    {"block": block, "attention": attention, "skip": skip}
    for block, attention, skip in product(("plain", "residual"), ("none", "channel", "spatial", "both"), ("full", "half"))
]
SHAPES = [
    ((256, 512), 128),
    ((256, 512, 1024), 128),
    ((256, 512, 1024, 2048), 128),
    ((256, 512), 64),
    ((128, 256, 512), 128),
    ((256, 512, 1024), 256),
]


class AsItStood(nn.Module):
    """The default network written out."""

    def __init__(self):
        super().__init__()

        def conv(into, out, kernel=3, stride=1):
            return nn.Conv2d(into, out, kernel, stride, kernel // 2), nn.BatchNorm2d(out, **BN), nn.ReLU()

        self.stem = nn.Conv2d(256, 128, 1)
        first = nn.Sequential(*conv(128, 128), *conv(128, 256))
        self.encoders = nn.ModuleList([first, nn.Sequential(*conv(256, 512, stride=2), *conv(512, 512))])
        self.decoders = nn.ModuleList([nn.Sequential(*conv(768, 256), *conv(256, 256))])
        self.refine = nn.Sequential(*conv(256, 128), *conv(128, 128))
        last = conv(64, 32, 1)  # drawn before the convolution in front of it
        self.head = nn.Sequential(*conv(128, 64, 1), *last)

    def forward(self, x):
        fine = self.encoders[0](self.stem(x))
        coarse = F.interpolate(self.encoders[1](fine), size=fine.shape[2:], mode="bilinear", align_corners=False)
        return self.head(self.refine(self.decoders[0](torch.cat([coarse, fine], 1))))


def model_of(seed=0, width=1 / 16, **arguments):
    torch.manual_seed(seed)
    return OccupancyUNet(UNetConfig(width=width, **arguments))


def count(model):
    return sum(p.numel() for p in model.parameters())


def gigaflop(step, **arguments):
    """Of one forward pass, or one training step, at 180 x 180; on the meta device nothing is computed."""
    with torch.device("meta"):
        model, features = OccupancyUNet(UNetConfig(**arguments)), torch.empty(1, 256, 180, 180)
        with FlopCounterMode(display=False) as counter:
            outputs = model(features)
            if step:
                outputs.sum().backward()
    return counter.get_total_flops() / 1e9


def test_default_has_the_names_of_the_record():
    convolutions = ["encoders.0", "encoders.1", "decoders.0", "refine", "head"]
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected = ["stem.weight", "stem.bias"]
    for room in convolutions:
        for at in (0, 3):
            expected += [f"{room}.{at}.weight", f"{room}.{at}.bias", *(f"{room}.{at + 1}.{name}" for name in norm)]
    assert list(OccupancyUNet().state_dict()) == expected
    assert count(OccupancyUNet()) == 6_832_928


def test_default_draws_the_weights_and_gives_the_outputs_of_the_network_as_it_stood():
    torch.manual_seed(3)
    model = OccupancyUNet()
    after = torch.rand(1)
    torch.manual_seed(3)
    reference = AsItStood()
    assert torch.equal(torch.rand(1), after)
    expected = reference.state_dict()
    assert list(model.state_dict()) == list(expected)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
    features = torch.randn(1, 256, 9, 11)
    assert torch.equal(model(features), reference(features))


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(o.values()))
@pytest.mark.parametrize(("channels", "stem"), SHAPES)
def test_every_combination_gives_the_grid_back_and_moves_every_parameter(channels, stem, options):
    model = model_of(width=1 / 16, channels=channels, stem=stem, head="logits", **options)
    for module in model.modules():
        if isinstance(module, ChannelAttention):  # its four ReLUs here are all off in some draws
            nn.init.ones_(module.gate[0].bias)
    features = torch.randn(2, 256, 17, 23)
    outputs = model(features)
    assert outputs.shape == (2, 32, 17, 23)
    (outputs * torch.randn_like(outputs)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.count_nonzero() > 0, name


@pytest.mark.parametrize("size", [(2, 2), (1, 5), (17, 23), (18, 18)])
@pytest.mark.parametrize("options", [OPTIONS[1], OPTIONS[-1]], ids=["half", "everything"])
def test_half_skips_take_any_size(options, size):
    model = model_of(channels=(64, 64, 64), **options).eval()
    assert model(torch.zeros(2, 256, *size)).shape == (2, 32, *size)


def test_no_two_combinations_say_the_same():
    features = torch.randn(1, 256, 9, 9)
    outputs = {tuple(options.values()): model_of(head="logits", **options)(features).detach() for options in OPTIONS}
    for one, other in combinations(outputs, 2):
        assert (outputs[one] - outputs[other]).abs().max() > 0.01, (one, other)


@pytest.mark.parametrize("skip", ["full", "half"])
def test_residual_is_plain_with_a_shortcut_added(skip):
    """The same weights, shared by name, and another answer: the sum is really taken."""
    plain, residual = (model_of(block=block, skip=skip, head="logits") for block in ("plain", "residual"))
    ours, theirs = plain.state_dict(), residual.state_dict()
    with torch.no_grad():
        for name in theirs:
            source = name.replace("0.branch.", "") if "branch" in name else name
            if "shortcut" not in name:
                theirs[name].copy_(ours[source])
            elif name.endswith("1.weight"):
                theirs[name].zero_()  # a shortcut's BatchNorm: nothing is added
    features = torch.randn(1, 256, 9, 11)
    residual_stages = [m for m in residual.modules() if hasattr(m, "shortcut")]
    assert all(isinstance(m.shortcut, nn.Sequential) for m in residual_stages)
    assert len(residual_stages) == 4
    assert torch.allclose(plain(features), residual(features), atol=1e-5)
    nn.init.ones_(residual_stages[0].shortcut[1].weight)
    assert (plain(features) - residual(features)).abs().max() > 0.01


def test_channels_as_a_list_are_a_tuple():
    assert UNetConfig(channels=[256, 512]) == UNetConfig()


def test_four_stages_have_the_parameters_that_their_docstring_says():
    with torch.device("meta"):
        assert count(OccupancyUNet(UNetConfig(channels=(256, 512, 1024, 2048)))) == 124_825_376


def test_half_skips_have_as_many_parameters():
    for block in ("plain", "residual"):
        assert count(model_of(skip="half", block=block)) == count(model_of(block=block))


def test_default_costs_what_the_record_says():
    assert gigaflop(step=False) == pytest.approx(270, abs=0.5)
    assert gigaflop(step=True) == pytest.approx(809, abs=0.5)


def test_half_skips_save_a_third():
    assert gigaflop(step=True, skip="half") == pytest.approx(551, abs=0.5)
    saved = 2 * 9 * 768 * 256 * (180**2 - 90**2) / 1e9  # the 768 -> 256 convolution at 90 x 90
    assert gigaflop(False) - gigaflop(False, skip="half") == pytest.approx(saved, rel=1e-6)


def test_shortcuts_cost_their_one_by_one_convolutions():
    # 128 -> 256, 768 -> 256 and 256 -> 128 at 180 x 180, 256 -> 512 at 90 x 90
    added = 2 * (180**2 * (128 * 256 + 768 * 256 + 256 * 128) + 90**2 * 256 * 512) / 1e9
    assert gigaflop(False, block="residual") - gigaflop(False) == pytest.approx(added, rel=1e-6)


def test_attention_costs_next_to_nothing():
    assert 0 < gigaflop(True, attention="both") - gigaflop(True) < 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"block": "dense"}, "UNetConfig.block must be 'plain' or 'residual', got 'dense'"),
        ({"attention": "self"}, "UNetConfig.attention must be 'none' or 'channel' or 'spatial' or 'both', got 'self'"),
        ({"attention": None}, "UNetConfig.attention must be 'none' or 'channel' or 'spatial' or 'both', got None"),
        ({"skip": "quarter"}, "UNetConfig.skip must be 'full' or 'half', got 'quarter'"),
        ({"skip": "half", "channels": (64,)}, r"UNetConfig.skip 'half' needs a skip, .* got channels \(64,\)"),
    ],
)
def test_unknown_options_are_named_with_what_is_allowed(arguments, message):
    with pytest.raises(OcclabError, match=message):
        UNetConfig(**arguments)
