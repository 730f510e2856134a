"""Flips, turns and shifts: every one found on scenes that hardly look different, none where there is none."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from occlab.diagnosis.checks.alignment import Move, match, misaligned_target, swapped
from occlab.diagnosis.subject import Subject

BCE = F.binary_cross_entropy_with_logits
TURNS = [Move(a, b, c) for a in (False, True) for b in (False, True) for c in (False, True)][1:]
SHIFTS = [Move(dx=3), Move(dy=-3), Move(dx=-2, dy=2), Move(dy=1, dx=3)]


def boxes(n, size, g, heights=8, width=None):
    volume = torch.zeros(heights, size, width or size)
    for _ in range(n):
        z, y, x, h, w = (torch.rand(5, generator=g) * torch.tensor([heights - 2, size - 4, (width or size) - 4, 4, 4])).long()
        volume[: z + 2, y : y + h + 1, x : x + w + 1] = 1
    return volume


def slabs(seed=0, frames=2, heights=12, count=40):
    """Thin slabs at all heights, so that heights differ."""
    g = torch.Generator().manual_seed(seed)
    target = torch.zeros(frames, heights, 32, 32)
    for t in target:
        for _ in range(count):
            z, y, x = (torch.rand(3, generator=g) * torch.tensor([heights - 4.0, 28, 28])).long() + torch.tensor([2, 0, 0])
            t[z, y : y + 3, x : x + 3] = 1
    return torch.stack([seen(t, g) for t in target]), target


def seen(volume, g, noise=0.5, share=0.7):
    """Counts of the cells, some moved, missing or made up."""
    z, y, x = volume.nonzero().T
    kept = torch.rand(len(z), generator=g) < share
    y, x = ((v + (torch.randn(len(v), generator=g) * noise).round().long())[kept] for v in (y, x))
    inside = (y >= 0) & (x >= 0) & (y < volume.shape[1]) & (x < volume.shape[2])
    counts = torch.zeros_like(volume)
    counts.index_put_((z[kept][inside], y[inside], x[inside]), torch.ones(int(inside.sum())), accumulate=True)
    return counts + (torch.rand(volume.shape, generator=g) < 0.005)


def scene(seed=0, frames=2, size=32, n=8, noise=0.5, width=None):
    g = torch.Generator().manual_seed(seed)
    target = torch.stack([boxes(n, size, g, width=width) for _ in range(frames)])
    return torch.stack([seen(t, g, noise) for t in target]), target


class Net(nn.Module):
    def __init__(self, channels=8, heights=8, volume=False, turn=None):
        super().__init__()
        torch.manual_seed(0)
        self.last = nn.Conv3d(channels, 1, 3, padding=1) if volume else nn.Conv2d(channels, heights, 3, padding=1)
        self.turn = turn

    def forward(self, x):
        return self.last(x) if self.turn is None else self.turn(self.last(x))


def found(inputs, target, model=None, **options):
    volume = inputs.dim() == 5
    model = model or Net(inputs.shape[1], target.shape[1], volume)
    return misaligned_target(Subject(model, inputs, target[:, None] if volume else target, BCE, **options))


def held(finding):
    experiment = finding.next_experiment
    without, measured = experiment.run()
    assert experiment.low <= measured <= experiment.high, (str(experiment), without, measured)
    return without, measured


@pytest.mark.parametrize("move", TURNS + SHIFTS, ids=str)
@pytest.mark.parametrize("volume", [False, True])
def test_a_moved_target_is_found_and_its_fix_moves_it_back(move, volume):
    x, target = scene()
    wrong = move(target)
    finding = found(x[:, None] if volume else x, wrong)
    assert finding.verdict == "fail"
    variables = {"target": wrong}
    exec(finding.fix, variables)
    back = variables["target"]
    inner = (..., slice(6, -6), slice(6, -6))  # what a shift rolled in does not come back
    assert torch.equal(back[inner], target[inner])
    without, measured = held(finding)
    assert measured > 1.5 * without


def test_heights_from_above_are_a_failure_of_volumes_and_a_warning_of_channels():
    x, target = slabs()
    flat = found(x, target.flip(1))
    assert (flat.verdict, flat.evidence["kind"]) == ("warn", "a flip of the heights")
    volume = found(x[:, None], target.flip(1))
    assert (volume.verdict, volume.evidence["kind"]) == ("fail", "a flip of the heights")
    held(flat), held(volume)


def test_distractors_behind_the_heights_do_not_hide_a_flip():
    x, target = slabs()
    noisy = torch.cat([x, torch.randn(2, 5, 32, 32, generator=torch.Generator().manual_seed(3))], 1)
    assert found(noisy, target.flip(1)).verdict == "warn"
    assert found(noisy, target.flip(-1)).verdict == "fail"
    assert found(noisy, target).verdict == "pass"


def test_a_height_shift_of_two_cells_is_found_in_volumes():
    x, target = slabs()
    x = x[:, None]
    finding = found(x, target.roll(2, 1))
    assert (finding.verdict, finding.evidence["kind"]) == ("fail", "a shift of -2 in z (cells)")
    held(finding)
    assert found(x, target).verdict == "pass"


@given(seed=st.integers(0, 10**6), n=st.sampled_from([1, 2, 4, 8, 20]), noise=st.sampled_from([0.0, 1.0, 2.0]))
@settings(max_examples=50, deadline=None)
def test_a_target_in_its_place_is_let_be(seed, n, noise):
    x, target = scene(seed, frames=1 + seed % 3, size=24 + 8 * (seed % 2), n=n, noise=noise)
    assert not found(x if seed % 3 else x[:, None], target).alarming
    assert not found(x, torch.maximum(target, target.flip(-1))).alarming  # half of a symmetric scene was seen
    assert not found(x.roll(seed % 24, 0), target.flip(0)).alarming


@given(seed=st.integers(0, 10**6), kind=st.sampled_from(["noise", "smooth", "other scene", "mixed heights"]))
@settings(max_examples=50, deadline=None)
def test_inputs_that_are_no_map_of_the_target_are_let_be(seed, kind):
    g = torch.Generator().manual_seed(seed)
    x, target = scene(seed)
    if kind == "noise":
        x = torch.randn(2, 6, 32, 32, generator=g)
    elif kind == "smooth":
        x = F.interpolate(torch.rand(2, 3, 8, 8, generator=g), (32, 32), mode="bilinear")
    elif kind == "other scene":
        x = scene(seed + 1)[0]
    else:
        x = torch.einsum("cz,bzyx->bcyx", torch.randn(16, 8, generator=g), x)
    assert not found(x, target).alarming


def test_a_road_is_the_same_along_itself():
    target = torch.zeros(2, 8, 40, 40)
    target[:, :4, 10], target[:, :4, 29] = 1, 1
    g = torch.Generator().manual_seed(0)
    x = torch.stack([seen(t, g) for t in target])
    for moved in (target, target.roll(3, -1), target.flip(-1), target.flip(-2)):
        assert not found(x, moved).alarming


def test_depth_that_errs_in_proportion_is_no_shift():
    x, target = scene(n=40, size=64, noise=0.3)
    for scale in (0.97, 1.03):
        grid = F.affine_grid(
            torch.tensor([[[1 / scale, 0, 0], [0, 1 / scale, 0]]]).expand(2, 2, 3), x.shape, align_corners=False
        )
        assert not found(F.grid_sample(x, grid, mode="nearest", align_corners=False), target).alarming


@pytest.mark.parametrize("move", TURNS, ids=str)
def test_a_network_that_turns_its_output_is_healthy(move):
    x, target = scene()
    backwards = next(m for m in TURNS if torch.equal(m(move(target)), target))
    model = Net(turn=backwards)
    assert misaligned_target(Subject(model, x, backwards(target), BCE)).verdict == "pass"
    assert misaligned_target(Subject(Net(), x, backwards(target), BCE)).verdict == "fail"


def good(target):
    return lambda _, x: 6 * target - 4 + 0 * x.mean()


def test_a_good_prediction_bears_witness_where_the_inputs_cannot():
    _, target = scene()
    elsewhere = torch.randn(2, 3, 10, 10)
    moved = found(elsewhere, target.flip(-1), Net(), forward=good(target))
    assert (moved.verdict, moved.evidence["witness"]) == ("fail", "the prediction")
    held(moved)
    thin = slabs()[1]
    assert found(elsewhere, thin.flip(1), Net(), forward=good(thin)).evidence["kind"] == "a flip of the heights"
    assert found(elsewhere, target, Net(), forward=good(target)).verdict == "pass"
    assert found(elsewhere, target, Net(), forward=lambda m, x: torch.randn(target.shape)).verdict == "not-measurable"


def test_a_shift_that_the_network_has_learnt_is_a_note():
    x, target = scene()
    moved = target.roll(3, -1)
    assert found(x, moved, forward=good(moved)).verdict == "note"


def test_classes_and_masks_are_understood():
    x, target = scene(n=24)
    model = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.Unflatten(1, (2, 8)))
    classes = Subject(model, x, target.flip(-1).long(), nn.CrossEntropyLoss())
    assert misaligned_target(classes).verdict == "fail"
    half = torch.ones(target.shape, dtype=torch.bool)
    half[..., :16] = False
    assert found(x, target, mask=half).verdict == "pass"
    assert found(x, target.flip(-2), mask=half).verdict == "fail"


def test_a_grid_that_is_not_square_has_no_quarter_turns():
    x, target = scene(size=32, width=48)
    assert found(x, target.flip(-1)).evidence["kind"] == "a flip of x"
    assert found(x, target).verdict == "pass"


@given(seed=st.integers(0, 10**6), dy=st.integers(-3, 3), dx=st.integers(-3, 3))
@settings(max_examples=20, deadline=None)
def test_the_best_shift_is_that_of_plain_rolls(seed, dy, dx):
    g = torch.Generator().manual_seed(seed)
    a = torch.rand(1, 24, 24, generator=g)
    found = match(a, a.roll((-dy, -dx), (1, 2)))
    assert (found.best.dy, found.best.dx, found.best.turns) == (dy, dx, False)
    assert found.score > 0.9


def test_tensors_in_nested_inputs_are_swapped():
    a, b, new = torch.zeros(1), torch.zeros(1), torch.ones(1)
    inputs = swapped({"x": [a, b], "y": (b, 3)}, b, new)
    assert inputs["x"][0] is a
    assert inputs["x"][1] is new
    assert inputs["y"] == (new, 3)
