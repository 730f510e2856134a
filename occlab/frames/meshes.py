"""Triangle meshes and the few shapes a street is made of.

Every shape stands on z = 0 at the origin, x along its length; :func:`place` puts it into the street.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from ..errors import OcclabError

KINDS = ("road", "pavement", "terrain", "building", "barrier", "car", "person", "pole", "trunk", "foliage")
"""What a triangle belongs to; ``Mesh.kind`` numbers into this tuple."""


@dataclass(frozen=True)
class Mesh:
    """Triangles, and for each one what it is and how well it reflects.

    Raises:
        OcclabError: arrays whose shapes do not fit each other.
    """

    vertices: np.ndarray
    """(V, 3) float32, metres."""
    triangles: np.ndarray
    """(F, 3) uint32 vertex numbers."""
    kind: np.ndarray
    """(F,) uint8, number into KINDS."""
    reflectivity: np.ndarray
    """(F,) float32 in [0, 1]: share of a laser pulse that the surface sends back, for the LiDAR's intensity."""

    def __post_init__(self) -> None:
        n = len(self.triangles)
        per_triangle = self.triangles.shape == (n, 3) and self.kind.shape == self.reflectivity.shape == (n,)
        if self.vertices.shape[1:] != (3,) or not per_triangle:
            raise OcclabError(
                f"Mesh expects vertices (V, 3), triangles (F, 3), kind (F,), reflectivity (F,); got "
                f"{self.vertices.shape}, {self.triangles.shape}, {self.kind.shape}, {self.reflectivity.shape}"
            )


def surface(vertices: np.ndarray, triangles: np.ndarray, kind: str, reflectivity: float) -> Mesh:
    """A mesh of one kind and one reflectivity."""
    n = len(triangles)
    return Mesh(
        np.asarray(vertices, np.float32),
        np.asarray(triangles, np.uint32),
        np.full(n, KINDS.index(kind), np.uint8),
        np.full(n, reflectivity, np.float32),
    )


def merge(meshes: Sequence[Mesh]) -> Mesh:
    """Several meshes as one; none at all gives a mesh without triangles."""
    if not meshes:
        return Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint32), np.zeros(0, np.uint8), np.zeros(0, np.float32))
    first = np.cumsum([0] + [len(m.vertices) for m in meshes[:-1]])
    return Mesh(
        np.concatenate([m.vertices for m in meshes]),
        np.concatenate([m.triangles + np.uint32(n) for m, n in zip(meshes, first, strict=True)]),
        np.concatenate([m.kind for m in meshes]),
        np.concatenate([m.reflectivity for m in meshes]),
    )


def place(mesh: Mesh, position: Sequence[float], heading: float = 0.0) -> Mesh:
    """Turn a mesh left by ``heading`` radians about z, then move it by ``position`` (x, y, z), metres."""
    c, s = np.cos(heading), np.sin(heading)
    turned = mesh.vertices @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]], np.float32)
    return replace(mesh, vertices=(turned + np.asarray(position, np.float32)).astype(np.float32))


_BOX_TRIANGLES = np.array(
    # bottom, top, then the four sides; corners 0-3 run round the bottom, 4-7 round the top
    [0, 2, 1, 0, 3, 2, 4, 5, 6, 4, 6, 7, 0, 1, 5, 0, 5, 4, 1, 2, 6, 1, 6, 5, 2, 3, 7, 2, 7, 6, 3, 0, 4, 3, 4, 7],
    np.uint32,
).reshape(12, 3)


def box(
    size: tuple[float, float, float],
    kind: str,
    reflectivity: float,
    *,
    centre: tuple[float, float] = (0.0, 0.0),
    base: float = 0.0,
    top: tuple[float, float] | None = None,
) -> Mesh:
    """A box of ``size`` (x, y, z) metres with its bottom at height ``base``.

    ``top``: length and width of its upper face where they differ, as on a car's cabin or a pitched roof.
    """
    sx, sy, sz = size
    tx, ty = top if top is not None else (sx, sy)
    corner = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
    low = np.column_stack([corner * (sx, sy) + centre, np.full(4, base)])
    high = np.column_stack([corner * (tx, ty) + centre, np.full(4, base + sz)])
    return surface(np.concatenate([low, high]), _BOX_TRIANGLES, kind, reflectivity)


def tube(
    radius: float, height: float, kind: str, reflectivity: float, *, base: float = 0.0, top: float | None = None, sides: int = 8
) -> Mesh:
    """An upright prism of ``sides`` faces inside a circle of ``radius``; ``top``: its upper radius where it tapers."""
    angle = 2 * np.pi * np.arange(sides) / sides
    ring = np.column_stack([np.cos(angle), np.sin(angle)])
    low = np.column_stack([ring * radius, np.full(sides, base)])
    high = np.column_stack([ring * (radius if top is None else top), np.full(sides, base + height)])
    i, j = np.arange(sides), (np.arange(sides) + 1) % sides
    fan = np.arange(1, sides - 1)
    triangles = np.concatenate(
        [
            np.column_stack([i, j, j + sides]),
            np.column_stack([i, j + sides, i + sides]),
            np.column_stack([np.full_like(fan, sides), fan + sides, fan + 1 + sides]),
            np.column_stack([np.zeros_like(fan), fan + 1, fan]),
        ]
    )
    return surface(np.concatenate([low, high]), triangles, kind, reflectivity)


@cache
def _sphere(subdivisions: int) -> tuple[np.ndarray, np.ndarray]:
    """An octahedron, each triangle cut in four ``subdivisions`` times, corners pushed out to radius 1."""
    vertices = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
    triangles = [(y, x, z) if (x + y + z) % 2 else (x, y, z) for x in (0, 1) for y in (2, 3) for z in (4, 5)]
    for _ in range(subdivisions):
        middle: dict[tuple[int, int], int] = {}

        def half(a: int, b: int, middle: dict[tuple[int, int], int] = middle) -> int:
            key = (min(a, b), max(a, b))
            if key not in middle:
                m = np.add(vertices[a], vertices[b])
                vertices.append(tuple(m / np.linalg.norm(m)))
                middle[key] = len(vertices) - 1
            return middle[key]

        finer = []
        for a, b, c in triangles:
            ab, bc, ca = half(a, b), half(b, c), half(c, a)
            finer += [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
        triangles = finer
    return np.array(vertices, np.float64), np.array(triangles, np.uint32)


def blob(
    radii: tuple[float, float, float],
    kind: str,
    reflectivity: float,
    *,
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0),
    roughness: float = 0.0,
    rng: np.random.Generator | None = None,
    subdivisions: int = 2,
) -> Mesh:
    """An ellipsoid whose corners are pushed in and out at random by ``roughness`` (standard deviation, share of the radius)."""
    sphere, triangles = _sphere(subdivisions)
    if roughness > 0:
        rng = rng if rng is not None else np.random.default_rng(0)
        sphere = sphere * (1 + roughness * rng.standard_normal((len(sphere), 1)))
    return surface(sphere * radii + centre, triangles, kind, reflectivity)
