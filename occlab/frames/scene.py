"""A made-up street: road, pavements, buildings, trees, cars, people, as triangle meshes.

Places on the street are given along the road: ``s`` metres forward, ``t`` metres left of the centre line. Everything
else is in the frame of the key moment's LiDAR: x forward, y left, z up, origin at the LiDAR, metres. Metres a second, radians.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from . import props
from .meshes import Mesh, merge, place, surface

LIDAR_HEIGHT = 1.84
"""Metres from the ground to the LiDAR, as on the nuScenes car."""
LANE = 3.3
PARKING = 2.3
KERB = 0.14
END = 130.0  # the street runs this far both ways; beyond it there is only sky


@dataclass(frozen=True)
class SceneConfig:
    """What streets look like on average. Each street draws its own values."""

    curvature: float = 1 / 200
    """Sharpest bend, 1/metres."""
    tilt: float = 0.004
    """Standard deviation of the LiDAR's slope, along and across, against the road that the car stands on: no mount is level."""
    undulation: float = 0.2
    """Highest amplitude of the crests and dips along the road, metres."""
    camber: float = 0.025
    """Steepest fall of the road from its centre line to its kerbs."""
    side_slope: float = 0.06
    """Steepest rise or fall of the land beside the road."""
    frontage: float = 0.75
    """Share of the plots along the road that are built on."""
    parked: float = 0.55
    """Chance that a parking place at the kerb is taken."""
    traffic: float = 30.0
    """Mean distance between moving cars of one lane, metres, beyond the shortest one."""
    people: int = 14
    """Mean number of people within 50 m."""
    trees: float = 0.5
    """Chance of a tree at each place for one along the pavement."""
    speed: tuple[float, float] = (3.0, 12.0)
    """Slowest and fastest own speed."""


@dataclass(frozen=True)
class Road:
    """The shape of the ground: a centre line of constant curvature, and heights along and across it."""

    curvature: float
    half_width: float
    """Centre line to kerb."""
    pavement: float
    """Width of each pavement."""
    own_t: float
    """Where the own lane's centre lies; negative, since traffic keeps right."""
    lanes: int
    """Lanes a direction."""
    tilt: tuple[float, float]
    """Slope against the LiDAR's plane where the car stands, along s and along t."""
    wave: tuple[float, float, float]
    """Amplitude (m), length (m) and phase of crests and dips along the road."""
    camber: float
    side_slope: tuple[float, float]
    """Slope of the land to the left, and to the right, away from the road."""
    side_roads: tuple[tuple[int, float, float], ...]
    """(+1 left or -1 right, first s, last s) of each side road."""

    def in_side_road(self, s: np.ndarray, t: np.ndarray, margin: float = 0.0) -> np.ndarray:
        hit = np.zeros(np.broadcast(s, t).shape, bool)
        for side, first, last in self.side_roads:
            hit |= (np.sign(t) == side) & (s > first - margin) & (s < last + margin)
        return hit

    def slope(self, s: float) -> float:
        """Slope of the road along s."""
        amplitude, length, phase = self.wave
        wave = 2 * np.pi / length
        return self.tilt[0] + amplitude * wave * (np.cos(wave * s + phase) - np.cos(phase))

    def height(self, s: np.ndarray, t: np.ndarray) -> np.ndarray:
        """z of the ground, metres. Under the LiDAR of the key moment it is -LIDAR_HEIGHT."""
        return self._profile(s, t) - self._profile(np.float64(0), np.float64(self.own_t)) - LIDAR_HEIGHT

    def _profile(self, s: np.ndarray, t: np.ndarray) -> np.ndarray:
        amplitude, length, phase = self.wave
        wave = 2 * np.pi / length
        z = amplitude * (np.sin(wave * s + phase) - wave * s * np.cos(phase))  # level under the car, which stands on it
        z = z + self.tilt[0] * s + self.tilt[1] * t
        across = np.abs(t)
        on_pavement = np.clip(across - self.half_width, 0, self.pavement)
        beyond = np.maximum(across - self.half_width - self.pavement, 0)
        z = z - self.camber * np.minimum(across, self.half_width)
        z = z + np.where((across > self.half_width) & ~self.in_side_road(s, t), KERB + 0.02 * on_pavement, 0)
        return z + beyond * np.where(t > 0, self.side_slope[0], self.side_slope[1])

    def at(self, s: np.ndarray, t: np.ndarray, up: float = 0.0) -> np.ndarray:
        """(s, t), ``up`` metres above the ground -> (..., 3) x, y, z."""
        k = self.curvature
        x = np.sin(k * s) / k - t * np.sin(k * s)
        y = (1 - np.cos(k * s)) / k + t * np.cos(k * s) - self.own_t
        return np.stack(np.broadcast_arrays(x, y, self.height(s, t) + up), axis=-1)

    def heading(self, s: float) -> float:
        """Direction of the road, radians left of x."""
        return self.curvature * s


@dataclass(frozen=True)
class Mover:
    """Something that moves straight on: where it is at the key moment, and how fast it goes."""

    mesh: Mesh
    velocity: tuple[float, float, float]

    def at(self, time: float) -> Mesh:
        """The mesh ``time`` seconds after the key moment."""
        return place(self.mesh, np.multiply(self.velocity, time))


@dataclass(frozen=True)
class Scene:
    """A street and the car that drives along it."""

    static: Mesh
    movers: tuple[Mover, ...]
    road: Road
    speed: float
    """Own speed along the road."""

    def lidar_pose(self, time: float) -> np.ndarray:
        """(4, 4) float64: coordinates of the LiDAR at ``time`` seconds -> coordinates of the LiDAR at the key moment."""
        s = self.speed * time
        yaw, pitch = self.road.heading(s), np.arctan(self.road.slope(s)) - np.arctan(self.road.slope(0.0))
        cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
        pose = np.eye(4)
        pose[:3, :3] = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]]) @ np.array([[cp, 0, -sp], [0, 1, 0], [sp, 0, cp]])
        pose[:3, 3] = self.road.at(np.float64(s), np.float64(self.road.own_t), LIDAR_HEIGHT)
        return pose


def build_scene(rng: Generator, config: SceneConfig) -> Scene:
    """Draw a street."""
    road = _draw_road(rng, config)
    parts = [_ground(road, rng)]
    for side in (1, -1):
        parts += _frontage(road, side, rng, config)
        parts += _along_the_kerb(road, side, rng, config)
    speed = float(rng.uniform(*config.speed))
    people = list(_people(road, rng, config))
    parts += [mover.mesh for mover in people if not any(mover.velocity)]
    movers = [mover for mover in people if any(mover.velocity)] + list(_traffic(road, speed, rng, config))
    return Scene(merge(parts), tuple(movers), road, speed)


def _draw_road(rng: Generator, config: SceneConfig) -> Road:
    lanes = int(rng.choice([1, 1, 2]))
    side_roads = []
    for side in (1, -1):
        for centre in rng.uniform([-60, 5], [-5, 60]):
            half = rng.uniform(3.5, 5.5)
            if rng.random() < 0.6:
                side_roads.append((side, float(centre - half), float(centre + half)))
    bend = rng.uniform(-1, 1) * config.curvature if rng.random() < 0.6 else 0.0
    return Road(
        curvature=float(bend) if abs(bend) > 1e-6 else 1e-6,  # 0 would divide by 0; a radius of 1,000 km is straight
        half_width=lanes * LANE + PARKING,
        pavement=float(rng.uniform(2.0, 4.5)),
        own_t=-(int(rng.integers(lanes)) + 0.5) * LANE,
        lanes=lanes,
        tilt=(float(config.tilt * rng.standard_normal()), float(config.tilt * rng.standard_normal())),
        wave=(float(rng.uniform(0, config.undulation)), float(rng.uniform(90, 180)), float(rng.uniform(0, 2 * np.pi))),
        camber=float(rng.uniform(0.3, 1) * config.camber),
        side_slope=tuple(float(v) for v in rng.uniform(-0.5, 1, 2) * config.side_slope),
        side_roads=tuple(side_roads),
    )


def _ground(road: Road, rng: Generator) -> Mesh:
    """A grid in (s, t), finer where the height has a step: at kerbs and side roads."""
    edge, verge = road.half_width, road.half_width + road.pavement
    across = np.concatenate([[0, edge / 2, edge, edge + 0.02, verge], np.arange(verge + 1, 121, 4)])
    t = np.concatenate([-across[:0:-1], across])
    steps = [v for _, first, last in road.side_roads for v in (first, first + 0.02, last - 0.02, last)]
    s = np.unique(np.concatenate([np.arange(-END, END + 1, 4.0), steps]))
    s_st, t_st = np.meshgrid(s, t, indexing="ij")
    vertices = road.at(s_st, t_st)
    rough = (np.abs(t_st) > verge + 0.5) & ~road.in_side_road(s_st, t_st, margin=4)
    vertices[..., 2] += 0.08 * rng.standard_normal(s_st.shape) * rough
    n = np.arange(s_st.size).reshape(s_st.shape)
    quads = np.stack([n[:-1, :-1], n[1:, :-1], n[1:, 1:], n[:-1, 1:]], axis=-1).reshape(-1, 4)
    middle_s = ((s_st[:-1, :-1] + s_st[1:, 1:]) / 2).ravel()
    middle_t = ((t_st[:-1, :-1] + t_st[1:, 1:]) / 2).ravel()
    is_road = (np.abs(middle_t) < edge) | road.in_side_road(middle_s, middle_t)
    is_pavement = ~is_road & (np.abs(middle_t) < verge)
    parts = []
    for mask, kind, reflectivity in (
        (is_road, "road", 0.12),
        (is_pavement, "pavement", 0.22),
        (~is_road & ~is_pavement, "terrain", 0.3),
    ):
        corners = quads[mask]
        triangles = np.concatenate([corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]])
        used, renumbered = np.unique(triangles, return_inverse=True)
        parts.append(surface(vertices.reshape(-1, 3)[used], renumbered.reshape(-1, 3), kind, reflectivity))
    return merge(parts)


def _frontage(road: Road, side: int, rng: Generator, config: SceneConfig) -> Iterator[Mesh]:
    """Two rows of plots along one side: buildings, or what closes a gap between them."""
    line = road.half_width + road.pavement
    usual = rng.choice([0.3, 2.0, 5.0])  # city centre, town, suburb
    tall = rng.uniform(5, 15)
    for row, share in ((0, config.frontage), (1, 0.5 * config.frontage)):
        s = -100.0
        while s < 100:
            length = rng.uniform(7, 24)
            if road.in_side_road(np.float64(s + length / 2), np.float64(side), margin=length / 2 + 1.5):
                s += 2.0
                continue
            back = line + usual + rng.uniform(0, 2.5) + (0 if row == 0 else rng.uniform(18, 28))
            middle = s + length / 2
            heading = road.heading(middle)
            if rng.random() < share:
                depth = rng.uniform(8, 13)
                house = props.building(length, depth, max(3.5, tall * rng.uniform(0.6, 1.4)), rng)
                turn = heading if side > 0 else heading + np.pi  # the front looks at the road
                yield place(house, road.at(middle, side * (back + depth / 2), -1.0), turn)
            else:
                for _ in range(rng.integers(0, 4)):
                    at = rng.uniform(s, s + length), side * (back + rng.uniform(2, 12))
                    yield place(props.tree(rng), road.at(*at, -0.2), rng.uniform(0, 6))
            if row == 0 and usual > 1 and rng.random() < 0.7:
                yield place(props.barrier(length - 1.5, rng), road.at(middle, side * (line + 0.4), -0.1), heading)
            s += length + rng.choice([0.0, 0.0, 1.0, 4.0])


def _along_the_kerb(road: Road, side: int, rng: Generator, config: SceneConfig) -> Iterator[Mesh]:
    """Parked cars, lamps, signs and street trees of one side."""
    s = -90.0
    while s < 90:
        if not road.in_side_road(np.float64(s), np.float64(side), margin=5):
            at, heading = road.at(s, side * (road.half_width - PARKING / 2)), road.heading(s) + np.pi * (side > 0)
            if rng.random() < config.parked:
                yield place(props.vehicle(rng), at, heading + rng.normal(0, 0.02))
        s += rng.uniform(5.8, 7.5)
    for first, step, chance, draw in (
        (-95, 26, 0.9, props.lamp),
        (-90, 17, 0.5, props.sign),
        (-93, 9, config.trees, props.tree),
    ):
        for s in np.arange(first + rng.uniform(0, step), 95, step):
            t = side * (road.half_width + rng.uniform(0.5, 0.9))
            if rng.random() < chance and not road.in_side_road(np.float64(s), np.float64(side), margin=1.5):
                yield place(draw(rng), road.at(s, t, -0.1), road.heading(s) + np.pi * (side > 0))


def _people(road: Road, rng: Generator, config: SceneConfig) -> Iterator[Mover]:
    for _ in range(rng.poisson(config.people)):
        s, side = rng.uniform(-50, 50), rng.choice([-1, 1])
        t = side * (road.half_width + rng.uniform(1.0, road.pavement))
        walking = rng.random() < 0.7
        heading = road.heading(s) + np.pi * rng.integers(2)
        if walking and abs(s) > 12 and rng.random() < 0.15:  # crosses the road
            t, heading = t * rng.uniform(0, 0.9), heading - np.pi / 2 * side
        pace = rng.uniform(0.9, 1.8) if walking else 0.0
        velocity = (float(pace * np.cos(heading)), float(pace * np.sin(heading)), 0.0)
        yield Mover(place(props.person(rng), road.at(s, t), heading), velocity)


def _traffic(road: Road, own_speed: float, rng: Generator, config: SceneConfig) -> Iterator[Mover]:
    for direction in (1, -1):
        for lane in range(road.lanes):
            t = -direction * (lane + 0.5) * LANE
            pace = float(rng.uniform(0.6, 1.3)) * max(own_speed, 5.0)
            s = -90.0 + rng.exponential(config.traffic)
            while s < 90:
                own_place = direction > 0 and t == road.own_t and -12 < s < 14
                if not own_place:
                    heading = road.heading(s) + (0 if direction > 0 else np.pi)
                    velocity = (
                        float(pace * np.cos(heading)),
                        float(pace * np.sin(heading)),
                        float(direction * pace * road.slope(s)),
                    )
                    yield Mover(place(props.vehicle(rng), road.at(s, t), heading), velocity)
                s += 15.0 + rng.exponential(config.traffic)
