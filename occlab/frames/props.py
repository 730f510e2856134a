"""What stands on a street: buildings, barriers, vehicles, people, poles, trees.

All stand on z = 0 at the origin, as :mod:`occlab.frames.meshes` has it; :mod:`occlab.frames.scene` places them.
"""

import numpy as np
from numpy.random import Generator

from .meshes import Mesh, blob, box, merge, place, tube


def building(length: float, depth: float, height: float, rng: Generator) -> Mesh:
    """A block, its front towards -y with bays, balconies and bins. The lowest metre is meant to be under the ground."""
    bright = float(rng.uniform(0.2, 0.6))
    parts = [box((length - 0.3, depth, height + 1), "building", bright)]
    if rng.random() < 0.6:
        parts.append(box((length - 0.3, depth, 3), "building", 0.25, base=height + 1, top=(length - 0.3, 0.4)))
    for x in np.arange(-length / 2 + 2, length / 2 - 1.5, rng.uniform(3, 5)):
        what = rng.random()
        if what < 0.2:  # bay window, or the stair to the door
            parts.append(box((1.8, 1.2, rng.uniform(1.3, height)), "building", bright, centre=(x, -depth / 2 - 0.4)))
        elif what < 0.4:  # awning or balcony
            parts.append(box((2.2, 1.4, 0.25), "building", bright, centre=(x, -depth / 2 - 0.6), base=rng.uniform(3.4, 4.2)))
        elif what < 0.6:  # bins, steps, planters
            parts.append(box((0.8, 0.7, rng.uniform(1.4, 2.2)), "barrier", 0.3, centre=(x, -depth / 2 - 0.3)))
    return merge(parts)


def barrier(length: float, rng: Generator) -> Mesh:
    """A wall, a hedge or a fence along x."""
    what = rng.integers(3)
    if what == 0:
        return box((length, 0.25, rng.uniform(0.7, 2.0)), "barrier", 0.35)
    height = rng.uniform(1.0, 1.8)
    if what == 1:
        radii = (0.75, 0.5, height / 2)
        bushes = [
            blob(radii, "foliage", 0.35, centre=(x, 0, height / 2), roughness=0.12, rng=rng, subdivisions=1)
            for x in np.arange(-length / 2, length / 2, 0.9)
        ]
        return merge([box((length, 0.5, 0.8 * height), "foliage", 0.35), *bushes])
    posts = [box((0.1, 0.1, height), "barrier", 0.3, centre=(x, 0)) for x in np.arange(-length / 2, length / 2, 2.0)]
    rails = [box((length, 0.05, 0.12), "barrier", 0.3, base=z) for z in np.linspace(0.3, height - 0.15, 3)]
    return merge(posts + rails)


def vehicle(rng: Generator) -> Mesh:
    """A car (mostly), a van, or a bus or lorry, pointing along x."""
    paint = float(rng.uniform(0.1, 0.8))
    what = rng.random()
    if what < 0.82:
        length, width, height = rng.normal(4.4, 0.25), rng.normal(1.82, 0.05), rng.normal(1.5, 0.08)
        waist = 0.62 * height
        parts = [
            box((length, width, waist - 0.2), "car", paint, base=0.2),
            box(
                (0.62 * length, width - 0.1, height - waist),
                "car",
                0.5 * paint,
                base=waist,
                centre=(-0.06 * length, 0),
                top=(0.4 * length, width - 0.4),
            ),
        ]
        wheelbase = 0.58 * length
    elif what < 0.94:
        length, width, height = rng.normal(5.4, 0.3), 2.0, rng.normal(2.3, 0.2)
        parts = [
            box((length, width, 0.9), "car", paint, base=0.25),
            box((0.8 * length, width - 0.1, height - 1.15), "car", paint, base=1.15, centre=(-0.1 * length, 0)),
        ]
        wheelbase = 0.6 * length
    else:
        length, width, height = rng.uniform(8, 11.5), 2.5, rng.uniform(3.0, 3.5)
        parts = [box((length, width, height - 0.35), "car", paint, base=0.35)]
        wheelbase = 0.55 * length
    wheels = [
        box((0.62, 0.22, 0.6), "car", 0.08, centre=(x * wheelbase / 2, y * (width / 2 - 0.12)))
        for x in (-1, 1)
        for y in (-1, 1)
    ]
    return merge(parts + wheels)


def person(rng: Generator) -> Mesh:
    """Legs, trunk and head."""
    height, cloth = rng.normal(1.72, 0.1), float(rng.uniform(0.1, 0.6))
    hip, neck = 0.5 * height, 0.84 * height
    return merge(
        [
            tube(0.13, hip, "person", cloth, top=0.17, sides=6),
            tube(0.2, neck - hip, "person", cloth, base=hip, top=0.24, sides=6),
            tube(0.1, height - neck, "person", 0.4, base=neck, sides=6),
        ]
    )


def lamp(rng: Generator) -> Mesh:
    """A street lamp whose arm reaches over the road (towards y)."""
    height = rng.uniform(5, 8)
    return merge(
        [tube(0.11, height, "pole", 0.5, top=0.06), box((0.25, 1.8, 0.12), "pole", 0.5, centre=(0, 0.9), base=height - 0.1)]
    )


def sign(rng: Generator) -> Mesh:
    """A plate on a post, facing along x; its sheeting sends nearly all light back."""
    height = rng.uniform(2.1, 2.8)
    size = rng.uniform(0.5, 0.9)
    return merge([tube(0.04, height, "pole", 0.5, sides=6), box((0.03, size, size), "pole", 0.98, base=height - 0.05)])


def tree(rng: Generator) -> Mesh:
    """A trunk, and a crown of four to seven overlapping blobs."""
    trunk, spread = rng.uniform(1.9, 3.2), rng.uniform(0.9, 1.8)
    parts = [tube(rng.uniform(0.1, 0.28), trunk + spread, "trunk", 0.25, top=0.06)]
    for _ in range(rng.integers(4, 8)):
        radii = spread * rng.uniform(0.6, 1.0, 3)
        x, y = rng.normal(0, 0.45 * spread, 2)
        z = trunk + spread * rng.uniform(0.5, 2.0)
        parts.append(blob(tuple(radii), "foliage", 0.35, centre=(x, y, z), roughness=0.15, rng=rng))
    return place(merge(parts), (0, 0, 0), rng.uniform(0, 2 * np.pi))
