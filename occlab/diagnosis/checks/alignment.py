"""Does the target lie where the inputs lie: flips, quarter turns, exchanged axes, shifts of a few cells?

Streets look much like their mirror image: a road along x, walls on both sides. So both maps are freed of what is coarse, and
what is left is correlated at *every* shift in all eight attitudes by FFT. Nearly all of these numbers say what chance gives.

The cut-offs were chosen on 573 healthy cases and 12,000 small scenes, until none of them alarmed. On 12,000 further ones none
did; 3,876 of these had enough in them to be judged. Planted into 22 streets and stereo frames: every turn and flip is found, a
shift by 3 cells in 17, by one cell in 4, some of them a cell off.

Legend: B frames, Z heights, Y X cells; a move is what has to be done to the target to bring it onto the inputs.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..copying import swapped, tensors
from ..finding import Experiment, Finding
from ..subject import Subject

REACH = 3
"""Shifts that are looked for, in cells."""
WINDOW = 9
"""What is coarser than this many cells is taken out."""
LEAST = 16
"""Cells along x and y below which there are too few shifts to tell a match from chance."""
STANDS_OUT = 7.0
"""A match is this many standard deviations of what all other shifts and attitudes give."""
PLACES = 5.0
"""... and comes from this many places: two boxes lie on each other in some attitude by chance."""
OVER_CHANCE = 1.2
"""... and this many times the best of those."""
TURNED = 0.5
"""Convicted of a turn or a flip: the best match within 3 cells of the identity is under this share of the turned one."""
TURN_STANDS_OUT = 10.0
"""... in deviations as above: a wrong pair of scenes with three boxes each reached 7.9."""
SHIFTED, SHIFT_STANDS_OUT, SHIFT_SCORE = 0.6, 12.0, 0.25
"""Convicted of a shift: the identity's correlation is under this share of the shifted one, which must be this large. A depth
that errs by 4 % pulls the best match up to 3 cells outwards on real stereo frames, but leaves the identity 0.85 of it. Noise of
2 cells left it 0.6 once, at 11 deviations and a correlation of 0.19."""
FLIPPED = 1.4
"""Convicted of a height flip: heights in reverse order match this many times better than in any other."""
RAISED, PEAK = 0.85, 0.25
"""Convicted of a height shift: the identity's correlation is under this share of the best. Neighbouring heights look alike: a
shift of 2 leaves 0.77 on streets. Untouched frames have their peak at the identity where the correlation is above 0.25; below
0.15, 3 of 1,500 scenes of solid boxes had it elsewhere."""
INFORMED = 0.4
"""A prediction bears witness where its correlation with the moved target, cell by cell, reaches this, its mean is within a
factor of 4 of the target's and its spread above 0.3 of it. An untrained one mixes its inputs, moved by random kernels."""
FOLLOWS = 0.1
"""Correlation above which a channel is taken to follow a height."""


@dataclass(frozen=True)
class Move:
    """Done to the target in this order: exchange of y and x, flips, roll."""

    exchange: bool = False
    flip_y: bool = False
    flip_x: bool = False
    dy: int = 0
    dx: int = 0
    flip_z: bool = False
    dz: int = 0

    def __call__(self, t: Tensor) -> Tensor:
        """Of the last two or three dimensions, (..., Z, Y, X)."""
        t = t.transpose(-1, -2) if self.exchange else t
        dims = [-3] * self.flip_z + [-2] * self.flip_y + [-1] * self.flip_x
        t = t.flip(dims) if dims else t
        shifts = {-3: self.dz, -2: self.dy, -1: self.dx}
        shifts = {dim: by for dim, by in shifts.items() if by}
        return t.roll(list(shifts.values()), list(shifts)) if shifts else t

    @property
    def turns(self) -> bool:
        return self.exchange or self.flip_y or self.flip_x

    @property
    def code(self) -> str:
        dims = [-3] * self.flip_z + [-2] * self.flip_y + [-1] * self.flip_x
        parts = [".transpose(-1, -2)"] * self.exchange + [f".flip({dims})".replace("[", "").replace("]", "")] * bool(dims)
        parts += [f".roll({by}, {dim})" for by, dim in ((self.dz, -3), (self.dy, -2), (self.dx, -1)) if by]
        return "target" + "".join(parts)

    def __str__(self) -> str:
        turns = {
            (0, 0, 0): "", (0, 0, 1): "a flip of x", (0, 1, 0): "a flip of y", (0, 1, 1): "a half turn",
            (1, 0, 0): "an exchange of x and y", (1, 1, 1): "an exchange of x and y and a half turn",
            (1, 1, 0): "a quarter turn", (1, 0, 1): "a quarter turn",
        }  # fmt: skip
        parts = [turns[self.exchange, self.flip_y, self.flip_x], "a flip of the heights" if self.flip_z else ""]
        shift = [f"{by:+d} in {axis}" for by, axis in ((self.dx, "x"), (self.dy, "y"), (self.dz, "z")) if by]
        parts.append(f"a shift of {', '.join(shift)} (cells)" if shift else "")
        return " and ".join(part for part in parts if part) or "nothing"


@dataclass(frozen=True)
class Match:
    """How well two maps fit in every attitude and at every shift."""

    best: Move
    score: float
    """Correlation of the details under the best move within reach."""
    identity: float
    near: float
    """The best within reach of shifts alone."""
    chance: float
    """Standard deviation of the correlation at shifts out of reach."""
    chance_best: float
    everywhere: bool
    """Is it better than none in all halves of the map? Where depth errs in proportion, they go different ways."""

    places: float
    """Number of places, of 9 x 9 cells, that the best move's correlation comes from, those that give most counted most."""

    @property
    def stands_out(self) -> bool:
        return self.places > PLACES and self.score > STANDS_OUT * self.chance and self.score > OVER_CHANCE * self.chance_best

    @property
    def convicts(self) -> bool:
        """Does another move than none fit, beyond doubt?"""
        if not self.stands_out or self.best == Move():
            return False
        if self.best.turns:
            return self.near < TURNED * self.score and self.score > TURN_STANDS_OUT * self.chance
        far_out = self.score > max(SHIFT_SCORE, SHIFT_STANDS_OUT * self.chance)
        return self.everywhere and far_out and self.identity < SHIFTED * self.score


def match(a_BYX: Tensor, target_BYX: Tensor) -> Match | None:
    """Every attitude and shift of the target against a map, frames pooled; None where there is nothing to go by."""
    y, x = a_BYX.shape[-2:]
    a, target = detail(a_BYX), detail(target_BYX)
    size = float((a.square().sum() * target.square().sum()).sqrt())
    if min(y, x) < LEAST or not size > 1e-9 * a.numel():
        return None
    spectrum = torch.fft.rfft2(a)
    scores = {}
    for exchange in (False, True)[: 1 + (y == x)]:
        for flip_y in (False, True):
            for flip_x in (False, True):
                move = Move(exchange, flip_y, flip_x)
                product = spectrum * torch.fft.rfft2(move(target)).conj()
                scores[move] = torch.fft.fftshift(torch.fft.irfft2(product, s=(y, x)).sum(0) / size)
    reach, middle = 2 * REACH, (slice(y // 2 - REACH, y // 2 + REACH + 1), slice(x // 2 - REACH, x // 2 + REACH + 1))
    outside = torch.ones_like(a[0], dtype=torch.bool)
    outside[y // 2 - reach : y // 2 + reach + 1, x // 2 - reach : x // 2 + reach + 1] = False
    chance = torch.cat([score[outside] for score in scores.values()])
    tops = {move: float(score[middle].max()) for move, score in scores.items()}
    best, score = max(tops, key=tops.__getitem__), max(tops.values())
    dy, dx = divmod(int(scores[best][middle].argmax()), 2 * REACH + 1)
    plain = float(scores[best][y // 2, x // 2])
    if plain > SHIFTED * score:  # a turn alone, where the shift beside it adds little
        score = plain
    else:
        best = replace(best, dy=dy - REACH, dx=dx - REACH)
    none = float(scores[Move()][y // 2, x // 2])
    halves = (
        (..., slice(0, y // 2), slice(None)),
        (..., slice(y // 2, y), slice(None)),
        (..., slice(0, x // 2)),
        (..., slice(x // 2, x)),
    )
    moved = best(target)
    everywhere = all(_correlation(a[half], moved[half]) > _correlation(a[half], target[half]) for half in halves)
    shares = F.avg_pool2d((a * moved)[:, None], WINDOW, ceil_mode=True).clamp(min=0)
    places = float(shares.sum().square() / shares.square().sum().clamp(min=1e-30))
    return Match(best, score, none, tops[Move()], float(chance.std()), float(chance.max()), everywhere, places)


def detail(map_BYX: Tensor) -> Tensor:
    """A map without its local mean, (B, Y, X) float32 of mean 0."""
    m = map_BYX.float()
    m = m - F.avg_pool2d(m[:, None], WINDOW, 1, WINDOW // 2, count_include_pad=False)[:, 0]
    return m - m.mean((-2, -1), keepdim=True)


def activity(t: Tensor) -> Tensor:
    """Where each channel says something, (B, C, Y, X): of a sparse channel the places that are not at its usual value, of a
    dense one the distance from it in units of its mean distance. Heights of a volume (B, C, Z, Y, X) are the channels."""
    t = t.float()
    usual = t.flatten(-2)[..., ::7].median(-1).values[..., None, None]
    off = (t - usual).abs()
    sparse = (off > 0).flatten(-2).float().mean(-1)[..., None, None] < 0.5
    scaled = off / off.mean((-2, -1), keepdim=True).clamp(min=1e-12)
    off = torch.where(sparse, (off > 0).float(), scaled.clamp(max=4) / 4)
    if t.dim() == 5:
        return _kept(off.transpose(1, 2), sparse.transpose(1, 2)).sum(2)
    return _kept(off, sparse)


def _kept(off: Tensor, sparse: Tensor) -> Tensor:
    """Where there are sparse channels, the dense ones are left out: noise, images, coordinates."""
    return off * sparse if bool(sparse.any()) else off


# --- heights ------------------------------------------------------------------------------------------------------------


def heights(a_BCYX: Tensor, target_BZYX: Tensor) -> dict[Move, float]:
    """Mean correlation of a map's channels with the target's heights, in order and in reverse, shifted by up to 3.

    Channels are taken Z at a time, each group from the lowest height up, four groups at most. Empty where fewer than 5 channels
    follow a height, or where the heights that they follow are not in the order of the best move.
    """
    z = target_BZYX.shape[1]
    groups = min(4, a_BCYX.shape[1] // z)
    if not groups or z < 5:
        return {}
    a = a_BCYX[:, : groups * z].float()
    a, t = (detail(v.flatten(0, 1)).view(v.shape).transpose(0, 1).flatten(1) for v in (a, target_BZYX.float()))
    sizes = a.norm(dim=1)[:, None] * t.norm(dim=1)
    table = torch.where(sizes > 0, a @ t.T / sizes, torch.nan).view(groups, z, z)
    moves = {}
    for flip in (False, True):
        ordered = table.flip(-1) if flip else table
        for dz in range(-3, 4):
            moves[Move(flip_z=flip, dz=dz)] = float(torch.diagonal(ordered, -dz, 1, 2).nanmean())
    high, where = table.nan_to_num(-1).max(-1)
    follows, order = high > FOLLOWS, torch.arange(z, device=table.device).expand(groups, z)
    if int(follows.any(0).sum()) < 5:
        return {}
    best = max(moves, key=moves.__getitem__)

    def misfit(flip: bool, dz: int) -> float:
        expected = z - 1 - (order - dz) if flip else order - dz
        return float((where - expected).abs()[follows].double().mean())

    return moves if misfit(not best.flip_z, 0) >= 2 * misfit(best.flip_z, best.dz) + 0.5 else {}


def height_move(moves: dict[Move, float], shifts: bool) -> Move:
    """The move of the heights beyond doubt; with none the identity."""
    if not moves:
        return Move()
    best = max(moves, key=moves.__getitem__)
    if best.flip_z:
        upright = max(score for move, score in moves.items() if not move.flip_z)
        flipped = Move(flip_z=True)
        return flipped if moves[flipped] > FLIPPED * upright else Move()
    inside = abs(best.dz) < 3  # at the edge of what was looked at, it is no peak
    peaked = inside and moves[best] > PEAK and moves[Move()] < RAISED * moves[best]
    return best if shifts and peaked else Move()


# --- the check ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Witness:
    """A map that should lie where the target does, and what it says."""

    name: str
    source: Tensor
    """What the map was made from."""
    channels: Tensor
    """(B, C, Y, X), where each channel says something."""
    match: Match
    move: Move
    """The identity where nothing is beyond doubt."""
    score: float
    """Correlation under that move."""
    identity: float
    by_channels: bool = False
    """Only the order of a map's channels speaks: any network can put that right."""

    def of(self, target_BZYX: Tensor) -> float:
        """The same correlation with another target, as it is."""
        if self.move.flip_z or self.move.dz:
            return heights(self.channels, target_BZYX).get(Move(), 0.0)
        found = match(self.channels.sum(1), target_BZYX.sum(1))
        return 0.0 if found is None else found.identity


def misaligned_target(s: Subject) -> Finding:
    """Do the inputs, and the prediction if it is any good, match the target better after a turn, a flip or a shift?"""
    target = occupied(s)
    witnesses = [w for w in (*_inputs(s, target), _prediction(s, target)) if w is not None]
    telling = [w for w in witnesses if w.match.stands_out]
    if not telling:
        why = "no attitude stands out of chance" if witnesses else "nothing has its y and x"
        return Finding("misaligned-target", "not-measurable", f"Where the target lies was not measured: {why}.")
    guilty = [w for w in telling if w.move != Move()]
    upright = [w for w in telling if w.move == Move()]
    w = max(guilty or upright, key=lambda w: w.match.score / w.match.chance)
    evidence: dict[str, Any] = {"kind": str(w.move)} if guilty else {}
    evidence |= {"witness": w.name, "best": w.score, "as_it_is": w.identity, "chance": w.match.chance}
    evidence |= {"best_by_chance": w.match.chance_best, "cutoff": [TURNED, SHIFTED], "source": "correlation at all shifts"}
    if not guilty:
        title = f"The target lies where {w.name} says: correlation of their details {w.identity:.2f}."
        return Finding("misaligned-target", "pass", title, evidence)
    found = f"{w.name.capitalize()} fits the target best after {w.move}: correlation {w.score:.2f}, {w.identity:.2f} as it is"
    # A network can learn a shift, but no turn; and where two inputs disagree, the one that lies right may be the one in use.
    if any(u.name == w.name or not w.move.turns for u in upright):
        return Finding("misaligned-target", "note", f"{found}; but {upright[0].name} fits it as it is.", evidence)
    if w.move.turns and w.name == "the input" and _network_moves(s, w.source, w.move):
        return Finding("misaligned-target", "pass", f"{found}; the network itself moves it so.", evidence)
    fix = w.move.code.replace("target", "target = target", 1) + "  # or its inverse on the inputs; best where they are made"
    experiment = Experiment(
        f"Move the target: {w.move.code}", f"correlation of its details with those of {w.name}", 0.9 * w.score,
        min(1.0, 1.1 * w.score), lambda: (w.identity, w.of(w.move(target))),
    )  # fmt: skip
    why = "A convolution answers for the place that it looks at; what lies elsewhere it can only learn by heart."
    if w.by_channels:
        why = "One side counts its heights from the ground, the other from above: this network can learn it, its user cannot."
    return Finding("misaligned-target", "warn" if w.by_channels else "fail", f"{found}.", evidence, why, fix, experiment)


def occupied(s: Subject) -> Tensor:
    """Where the target is occupied, (B, Z, Y, X) float: of classes, where it is not the most common one."""
    target = s.target.masked_fill(~s.counted, 0)
    if s.by_class:
        target = (s.target != commonest(s)) & s.counted
    if target.dim() == 5:
        target = target.flatten(1, 2)
    return (target if target.dim() == 4 else target.unsqueeze(1)).float().nan_to_num()


def commonest(s: Subject) -> int:
    """The most common class of the cells that count."""
    counted = s.target[s.counted]
    return int(counted.mode().values) if counted.numel() else 0


def _inputs(s: Subject, target: Tensor) -> Iterator[Witness | None]:
    b, z, y, x = target.shape
    for t in tensors(s.inputs):
        if t.dim() in (4, 5) and t.shape[0] == b and t.shape[-2:] == (y, x):
            volume = t.dim() == 5
            if volume and t.shape[2] != z:
                continue
            yield _witness("the input", t, activity(t.detach().nan_to_num()), target, volume)


def _prediction(s: Subject, target: Tensor) -> Witness | None:
    p = s.p(s.output)
    if s.by_class:
        free = commonest(s)
        p = 1 - p[:, free] if free < p.shape[1] else p[:, 0]
    if p.numel() != target.numel():
        return None
    p = p.reshape(target.shape).nan_to_num()
    w = _witness("the prediction", p, p, target, True)
    spread = float(p.std(correction=0)) / max(float(target.std(correction=0)), 1e-9)
    rate = float(p.mean()) / max(float(target.mean()), 1e-9)
    informed = 0.25 < rate < 4 and spread > 0.3
    return w if w is not None and informed and _correlation(p, w.move(target)) > INFORMED else None


def _witness(name: str, source: Tensor, channels: Tensor, target: Tensor, volume: bool) -> Witness | None:
    m = match(channels.sum(1), target.sum(1))
    if m is None:
        return None
    if m.convicts:
        return Witness(name, source, channels, m, m.best, m.score, m.identity)
    moves = heights(channels, target)
    move = height_move(moves, shifts=volume)
    if move == Move():
        return Witness(name, source, channels, m, move, m.score, m.identity)
    return Witness(name, source, channels, m, move, moves[move], moves[Move()], by_channels=not volume)


def _correlation(a: Tensor, b: Tensor) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / (a.norm() * b.norm()).clamp(min=1e-12))


def _network_moves(s: Subject, source: Tensor, move: Move) -> bool:
    """Does the network itself make the move? A place of the input is disturbed: where does the output change?"""
    y, x = source.shape[-2:]
    cells = move(torch.arange(y * x).view(1, y, x))[0]  # at each place of the input, the place of the target that comes there
    here = there = 0.0
    with s.evaluating(s.twin()) as model:
        before = s.run(model)
        for i, j in ((y // 3, x // 5), (y // 5, 2 * x // 3), (3 * y // 5, x // 4)):
            k, m = divmod(int(cells[i, j]), x)
            if max(abs(k - i), abs(m - j)) < 4 or before.shape[-2:] != (y, x):
                continue
            disturbed = source.detach().clone()
            disturbed[..., i, j] += 1 + disturbed[..., i, j].abs()
            change = (s.run(model, swapped(s.inputs, source, disturbed)) - before).abs().flatten(0, -3).sum(0)
            here, there = here + float(change[i, j]), there + float(change[k, m])
    return there > here


STRUCTURE = (misaligned_target,)
PROBES = ()
