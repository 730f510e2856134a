"""The blocks against what their papers write down, term by term."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from occlab.models.blocks import ChannelAttention, HalfDecoder, Residual, SpatialAttention, attend, shortcut, stage

BN = {"eps": 1e-3, "momentum": 0.01}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize(("channels", "stride"), [((8, 8, 8), 1), ((8, 6, 12), 1), ((8, 12, 12), 2), ((8, 8, 8), 2)])
def test_residual_stage_is_relu_of_branch_plus_shortcut(channels, stride):
    block = stage(channels, stride=stride, residual=True, **BN)[0]
    x = torch.randn(2, 8, 9, 7)
    first, norm1, _, second, norm2 = block.branch
    expected = norm2(second(F.relu(norm1(first(x)))))
    by = block.shortcut
    expected = F.relu(expected + (x if isinstance(by, nn.Identity) else by[1](by[0](x))))
    torch.testing.assert_close(block(x), expected)
    assert expected.shape == (2, channels[2], -(-9 // stride), -(-7 // stride))


@pytest.mark.parametrize(("channels", "stride"), [((8, 8, 8), 1), ((8, 12, 12), 2)])
def test_residual_stage_with_a_silent_branch_is_exactly_its_shortcut(channels, stride):
    block = stage(channels, stride=stride, residual=True, **BN)[0]
    x = torch.randn(2, 8, 9, 7)
    nn.init.zeros_(block.branch[-1].weight)
    assert torch.equal(block(x), F.relu(block.shortcut(x)))
    assert block(x).count_nonzero() > 0


@pytest.mark.parametrize(
    ("channels", "stride", "identity"), [((8, 8), 1, True), ((8, 12), 1, False), ((8, 8), 2, False), ((12, 8), 2, False)]
)
def test_shortcut_is_the_identity_only_where_shapes_agree(channels, stride, identity):
    by = shortcut(*channels, stride=stride, **BN)
    assert isinstance(by, nn.Identity) == identity
    assert identity or (by[0].kernel_size, by[0].stride, by[1].eps) == ((1, 1), (stride, stride), 1e-3)


def test_residual_passes_the_gradient_through_the_shortcut():
    block = Residual(nn.Conv2d(4, 4, 1), nn.Identity())
    nn.init.zeros_(block.branch.weight)
    nn.init.ones_(block.branch.bias)
    x = torch.rand(1, 4, 5, 5, requires_grad=True)
    block(x).sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


def test_channel_attention_is_squeeze_and_excitation():
    attention = ChannelAttention(64)
    x = torch.randn(3, 64, 5, 7)
    down, _, up, _ = attention.gate
    squeezed = x.flatten(2).mean(2)
    hidden = F.relu(F.linear(squeezed, down.weight[:, :, 0, 0], down.bias))
    scale = torch.sigmoid(F.linear(hidden, up.weight[:, :, 0, 0], up.bias))
    torch.testing.assert_close(attention(x), torch.einsum("bcyx,bc->bcyx", x, scale))


@pytest.mark.parametrize(("channels", "hidden"), [(1, 4), (32, 4), (64, 4), (80, 5), (256, 16), (512, 32)])
def test_channel_attention_squeezes_sixteenfold_but_not_below_four(channels, hidden):
    assert ChannelAttention(channels).gate[0].out_channels == hidden


def test_spatial_attention_is_that_of_cbam():
    attention = SpatialAttention()
    x = torch.randn(2, 6, 9, 11)
    weight, bias = attention.gate[0].weight, attention.gate[0].bias
    assert weight.shape == (1, 2, 7, 7)
    over_mean = F.conv2d(x.mean(1, keepdim=True), weight[:, :1], padding=3)
    over_max = F.conv2d(x.max(1, keepdim=True).values, weight[:, 1:], padding=3)
    torch.testing.assert_close(attention(x), x * torch.sigmoid(over_mean + over_max + bias[:, None, None]))


@pytest.mark.parametrize("attention", [ChannelAttention(16), SpatialAttention()])
def test_attention_that_is_told_to_halve_halves(attention):
    for parameter in attention.parameters():
        nn.init.zeros_(parameter)
    x = torch.randn(2, 16, 5, 7)
    assert torch.equal(attention(x), x / 2)


def test_both_attentions_come_in_the_order_of_cbam():
    assert [type(m) for m in attend("both", 16)] == [ChannelAttention, SpatialAttention]
    assert [type(m) for m in attend("channel", 16)] == [ChannelAttention]
    assert [type(m) for m in attend("spatial", 16)] == [SpatialAttention]
    assert attend("none", 16) == []


def test_no_attention_draws_no_random_number():
    before = torch.get_rng_state()
    attend("none", 16)
    assert torch.equal(torch.get_rng_state(), before)


@settings(deadline=None, max_examples=25)
@given(rows=st.integers(2, 13), columns=st.integers(2, 13), residual=st.booleans())
def test_half_decoder_is_its_formula_at_every_size(rows, columns, residual):
    decoder = HalfDecoder(6, 4, residual=residual, **BN).eval()
    skip, below = torch.randn(1, 4, rows, columns), torch.randn(1, 6, -(-rows // 2), -(-columns // 2))
    padded = F.pad(skip, (0, columns % 2, 0, rows % 2), mode="replicate")  # the odd last row is averaged with itself
    small = torch.cat([below, F.avg_pool2d(padded, 2)], dim=1)
    up = nn.Upsample((rows, columns), mode="bilinear")
    expected = decoder.second(up(decoder.first(small)) + skip)
    if residual:
        expected = F.relu(expected + up(decoder.shortcut(small)))
    torch.testing.assert_close(decoder(below, skip), expected)


def test_half_decoder_with_a_silent_branch_is_exactly_its_shortcut():
    decoder = HalfDecoder(6, 4, residual=True, **BN)
    nn.init.zeros_(decoder.second[-1].weight)
    skip, below = torch.randn(2, 4, 9, 7), torch.randn(2, 6, 5, 4)
    small = torch.cat([below, F.avg_pool2d(skip, 2, ceil_mode=True)], dim=1)
    expected = F.relu(F.interpolate(decoder.shortcut(small), size=(9, 7), mode="bilinear"))
    assert torch.equal(decoder(below, skip), expected)
    assert expected.count_nonzero() > 0


def test_half_decoder_sees_the_skip_at_both_resolutions():
    decoder = HalfDecoder(6, 4, **BN).eval()
    skip, below = torch.randn(1, 4, 8, 8), torch.randn(1, 6, 4, 4)
    checks = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).tile(4, 4)  # vanishes when pooled
    assert (decoder(below, skip + checks) - decoder(below, skip)).abs().max() > 0.01
    nn.init.zeros_(decoder.first[0].weight[:, 6:])  # the pooled skip is cut off
    cut = decoder(below, skip)
    torch.manual_seed(1)
    nn.init.normal_(decoder.first[0].weight[:, 6:])
    assert (decoder(below, skip) - cut).abs().max() > 0.01
