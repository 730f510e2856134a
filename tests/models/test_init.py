"""Initial weights against the variances of their papers; output priors against what the network then says."""

import math

import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn

from occlab import OcclabError, OccupancyUNet, UNetConfig
from occlab.models import initialise, set_output_prior, zero_last
from occlab.models.init import last_convolution

QUARTER = {"width": 1 / 4}


@pytest.fixture
def features():
    torch.manual_seed(1)
    return torch.randn(2, 256, 20, 24)


def fresh(**arguments):
    torch.manual_seed(0)
    return OccupancyUNet(UNetConfig(**(QUARTER | arguments)))


def convolutions(model):
    return [m for m in model.modules() if isinstance(m, nn.Conv2d)]


def fans(convolution):
    out, into, *kernel = convolution.weight.shape
    return into * math.prod(kernel), out * math.prod(kernel)


def bce_gradients(model, features):
    """Outputs, and all gradients of the cross-entropy at 2 % occupied, as one vector."""
    outputs = model(features)
    F.binary_cross_entropy_with_logits(outputs, (torch.rand_like(outputs) < 0.02).float()).backward()
    return outputs.detach(), torch.cat([p.grad.flatten() for p in model.parameters()])


def test_kaiming_is_normal_with_variance_two_over_fan_out():
    model = fresh(attention="both", block="residual")
    initialise(model, "kaiming")
    for convolution in convolutions(model):
        scale = math.sqrt(2 / fans(convolution)[1])
        assert stats.kstest(convolution.weight.detach().flatten().numpy() / scale, "norm").pvalue > 1e-4


def test_xavier_is_uniform_with_variance_two_over_both_fans():
    model = fresh(attention="both", block="residual")
    initialise(model, "xavier")
    for convolution in convolutions(model):
        bound = math.sqrt(6 / sum(fans(convolution)))
        weights = convolution.weight.detach().flatten().numpy()
        assert stats.kstest(weights / bound, stats.uniform(-1, 2).cdf).pvalue > 1e-4


def test_default_is_what_pytorch_drew():
    model = fresh()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    initialise(model, "default")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    for convolution in convolutions(model):
        bound = 1 / math.sqrt(fans(convolution)[0])  # kaiming_uniform_ with a = sqrt(5)
        weights = convolution.weight.detach().flatten().numpy()
        assert stats.kstest(weights / bound, stats.uniform(-1, 2).cdf).pvalue > 1e-4


@pytest.mark.parametrize("scheme", ["kaiming", "xavier"])
def test_biases_and_norms_start_neutral(scheme):
    model = fresh()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7)
    initialise(model, scheme)
    assert all(c.bias.count_nonzero() == 0 and (c.weight != 7).all() for c in convolutions(model))
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 10
    assert all((n.weight == 1).all() and n.bias.count_nonzero() == 0 for n in norms)


def test_kaiming_is_decided_by_the_seed():
    first, second = fresh(), fresh()
    for model in (first, second):
        torch.manual_seed(5)
        initialise(model, "kaiming")
    assert torch.equal(first.head[0].weight, second.head[0].weight)


@pytest.mark.parametrize("head", ["rectified", "logits"])
def test_last_convolution_makes_the_heights(head):
    model = fresh(head=head)
    assert last_convolution(model) is convolutions(model)[-1]
    assert last_convolution(model).out_channels == 32


@pytest.mark.parametrize("p", [0.1, 0.01, 0.5, 0.9])
def test_prior_and_zero_last_make_every_voxel_exactly_p(p, features):
    model = fresh(head="logits")
    zero_last(model)
    set_output_prior(model, p)
    outputs = model(features).detach()
    assert (outputs == outputs[0, 0, 0, 0]).all()
    assert torch.sigmoid(outputs.double()).mean().item() == pytest.approx(p, rel=1e-6)


def test_prior_alone_makes_the_mean_logit_that_of_p(features):
    model = fresh(head="logits")
    set_output_prior(model, 0.1)
    outputs = model(features).detach()
    assert outputs.std() > 0.1
    assert torch.sigmoid(outputs.mean()).item() == pytest.approx(0.1, abs=0.03)


def test_prior_is_all_that_changes():
    model, before = fresh(), fresh().state_dict()
    set_output_prior(model, 0.2, where="norm")
    changed = [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])]
    assert changed == ["head.4.bias"]
    set_output_prior(model, 0.2, where="convolution")
    assert torch.equal(model.head[3].bias, model.head[4].bias)


def test_prior_before_the_norm_of_a_rectified_head_does_nothing_in_training(features):
    before = fresh()(features)
    for p in (0.1, 0.9):
        model = fresh()
        set_output_prior(model, p, where="convolution")
        assert (model(features) - before).abs().max() < 1e-4
    assert before.max() > 1  # so that agreement says something


def test_prior_behind_the_norm_cuts_off_what_the_normal_distribution_says(features):
    outputs, _ = bce_gradients(fresh(), features)
    model = fresh()
    set_output_prior(model, 0.1, where="norm")
    dead, _ = bce_gradients(model, features)
    assert (outputs == 0).double().mean().item() == pytest.approx(0.5, abs=0.05)
    # a normalised channel passes the ReLU where it lies above -logit(0.1) = 2.2 standard deviations
    assert (dead == 0).double().mean().item() == pytest.approx(stats.norm.cdf(math.log(9)), abs=0.015)
    assert torch.sigmoid(dead).min() == 0.5  # and it is no prior: nothing can say 0.1


def test_a_small_prior_behind_the_norm_kills_every_gradient(features):
    _, alive = bce_gradients(fresh(), features)
    assert (alive == 0).double().mean() < 0.001
    model = fresh()
    set_output_prior(model, 0.001, where="norm")
    outputs, gradients = bce_gradients(model, features)
    assert (outputs == 0).all()
    assert (gradients == 0).all()


def test_a_prior_on_bare_logits_leaves_the_gradients_alive(features):
    model = fresh(head="logits")
    set_output_prior(model, 0.001)
    outputs, gradients = bce_gradients(model, features)
    assert (outputs != 0).all()
    assert (gradients == 0).double().mean() < 0.001


def test_zero_last_lets_the_first_gradient_reach_only_the_last_convolution(features):
    model = fresh(head="logits")
    zero_last(model)
    bce_gradients(model, features)
    reached = [name for name, p in model.named_parameters() if p.grad.count_nonzero() > 0]
    assert reached == ["head.3.weight", "head.3.bias"]
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    model.zero_grad()
    _, gradients = bce_gradients(model, features)
    assert (gradients == 0).double().mean() < 0.001


@pytest.mark.parametrize("p", [0, 1, -0.1, 1.5, math.nan, math.inf, "0.1", None])
def test_a_prior_is_a_probability(p):
    with pytest.raises(OcclabError, match=r"prior p must be a probability between 0 and 1, both excluded, got"):
        set_output_prior(fresh(), p)


def test_a_prior_behind_a_norm_needs_one():
    with pytest.raises(OcclabError, match="only a 'rectified' head has, got a head of 'logits'"):
        set_output_prior(fresh(head="logits"), 0.1, where="norm")


def test_unknown_places_and_schemes_are_named():
    with pytest.raises(OcclabError, match="where must be 'convolution' or 'norm', got 'bias'"):
        set_output_prior(fresh(), 0.1, where="bias")
    with pytest.raises(OcclabError, match="scheme must be 'default' or 'kaiming' or 'xavier', got 'he'"):
        initialise(fresh(), "he")
