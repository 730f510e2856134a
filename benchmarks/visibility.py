"""What rays say of voxels: occlab's exact traversal beside rays sampled step by step, and Open3D's ray caster (Embree).

Open3D casts rays at surfaces and has nothing like ``ray_states``; it is compared where rays stop at the first occupied voxel.
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from clouds import sweep
from timing import Candidate, interleave, optional, table
from torch import BoolTensor, Tensor

from occlab import VoxelGrid, occupancy
from occlab.visibility import FREE, OCCUPIED, first_hit, ray_states

ORIGIN = (0.0, 0.0, 0.0)
CHECKED = 500
"""Rays whose first hits are computed from every voxel, to compare with. None of them runs along a face, as the very first ray
does: there, rounding decides which voxels it meets."""


def tables(device: str, quick: bool, left_out: list[str]) -> list[dict[str, Any]]:
    grid, content = VoxelGrid(), []
    for n, seconds in ((34_000, 6.0), (124_000, 12.0)):
        if quick and n > 34_000:
            continue
        seconds, least = (0.3, 2) if quick else (seconds, 5)
        points = sweep(n).to(device)
        volume = occupancy(points, grid)[0]
        about = f"{n:,} rays, {volume.sum():,} occupied voxels"
        out = left_out if n == 34_000 else []  # said once
        for what, candidates in (
            ("Free, occupied, unknown", states_candidates(points, grid)),
            ("First hit", hit_candidates(points, volume, grid, out)),
        ):
            interleave(candidates, seconds, least=least, device=device)
            measured = table(f"{what}: {about}", candidates)
            for row in measured["rows"]:
                row["million rays/s"] = n / row["min_ms"] / 1e3
            content.append(measured)
    return content


def states_candidates(points: Tensor, grid: VoxelGrid) -> list[Candidate]:
    ours = ray_states(points, grid)

    def check(states: Tensor) -> dict[str, str]:
        return {
            "free voxels": f"{int((states == FREE).sum()):,}",
            "missed": f"{int(((ours == FREE) & (states != FREE)).sum()):,}",
            "free only here": f"{int(((ours != FREE) & (states == FREE)).sum()):,}",
        }

    run = lambda: ray_states(points, grid)  # noqa: E731
    sampled = lambda: sampled_states(points, grid, step=0.125)  # noqa: E731
    candidates = [
        Candidate("occlab.visibility.ray_states", run, check),
        Candidate("torch: a sample every 0.125 m of each ray (textbook)", sampled, check),
    ]
    if points.device.type == "cpu":
        candidates.insert(1, Candidate("occlab.visibility.ray_states, 1 thread", run, check, threads=1))
    return candidates


def sampled_states(points: Tensor, grid: VoxelGrid, step: float) -> Tensor:
    """Free is what holds a sample of a ray: voxels whose corner a ray cuts off between two samples are missed."""
    free = torch.zeros(grid.shape, dtype=torch.bool, device=points.device)
    for ends in points.split(4096):
        count = (ends.norm(dim=1) / step).long()
        ray = torch.arange(len(ends), device=points.device).repeat_interleave(count)
        number = torch.arange(len(ray), device=points.device) - (count.cumsum(0) - count)[ray]
        free |= occupancy(ends[ray] * (number / (ends.norm(dim=1) / step)[ray])[:, None], grid)[0]
    states = free.to(torch.uint8) * FREE
    states[occupancy(points, grid)[0]] = OCCUPIED
    return states


def hit_candidates(points: Tensor, volume: BoolTensor, grid: VoxelGrid, left_out: list[str]) -> list[Candidate]:
    """From the sensor in the direction of each point."""
    chosen = ((np.arange(CHECKED) + 0.5) * len(points) / CHECKED).astype(int)
    cloud = points.cpu().numpy()
    truth = hits_by_slabs(cloud[chosen], volume, grid)

    def check(distance: Any) -> dict[str, str]:
        got = (distance.cpu().numpy() if isinstance(distance, Tensor) else distance)[chosen]
        same = np.isclose(got, truth, rtol=0, atol=1e-3)  # infinity is close to infinity
        return {f"wrong of {CHECKED}": str(int((~same).sum()))}

    run = lambda: first_hit(volume, grid, ORIGIN, points)  # noqa: E731
    candidates = [Candidate("occlab.visibility.first_hit", run, check)]
    if points.device.type == "cuda":
        return candidates
    candidates.append(Candidate("occlab.visibility.first_hit, 1 thread", run, check, threads=1))

    def open3d() -> list[Candidate]:
        cast, build_and_cast = open3d_hits(cloud, volume, grid)
        return [
            Candidate("Open3D RaycastingScene, 12 triangles a voxel", lambda: cast(0), check),
            Candidate("Open3D RaycastingScene, 1 thread", lambda: cast(1), check),
            Candidate("Open3D RaycastingScene, with building it", build_and_cast, check),
        ]

    return candidates + optional(left_out, "Open3D", open3d)


def hits_by_slabs(directions: np.ndarray, volume: BoolTensor, grid: VoxelGrid) -> np.ndarray:
    """(R,) metres from the sensor to the nearest occupied voxel, from the planes of all of them, in float64."""
    low, size = np.array(grid.point_cloud_range[:3]), np.array(grid.voxel_size)
    corner = low + volume.nonzero().flip(1).cpu().numpy() * size
    wide = directions.astype(np.float64)
    nearest = np.full(len(wide), np.inf)
    for i, direction in enumerate(wide / np.linalg.norm(wide, axis=1, keepdims=True)):
        with np.errstate(divide="ignore", invalid="ignore"):
            planes = np.stack([corner, corner + size]) / direction
        enters, leaves = planes.min(axis=0).max(axis=1), planes.max(axis=0).min(axis=1)
        met = leaves > np.maximum(enters, 0) + 1e-9
        nearest[i] = enters[met].min(initial=np.inf)
    return nearest


def open3d_hits(
    points: np.ndarray, volume: BoolTensor, grid: VoxelGrid
) -> tuple[Callable[[int], np.ndarray], Callable[[], np.ndarray]]:
    """Casts at a scene that is there already, given the number of threads (0: all); and at one that it builds first."""
    os.environ.setdefault("OPEN3D_DISABLE_WEB_VISUALIZER", "true")
    import open3d as o3d

    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    rays = o3d.core.Tensor(np.column_stack([np.broadcast_to(np.float32(ORIGIN), unit.shape), unit]).astype(np.float32))
    box = o3d.geometry.TriangleMesh.create_box(*grid.voxel_size)
    corners, faces = np.asarray(box.vertices), np.asarray(box.triangles)
    place = np.array(grid.point_cloud_range[:3]) + volume.nonzero().flip(1).numpy() * np.array(grid.voxel_size)
    vertices = (place[:, None] + corners).reshape(-1, 3).astype(np.float32)
    triangles = (len(corners) * np.arange(len(place))[:, None, None] + faces).reshape(-1, 3).astype(np.uint32)

    def build() -> Any:
        scene = o3d.t.geometry.RaycastingScene()
        scene.add_triangles(o3d.core.Tensor(vertices), o3d.core.Tensor(triangles))
        return scene

    scene = build()
    return (
        lambda threads: scene.cast_rays(rays, nthreads=threads)["t_hit"].numpy(),
        lambda: build().cast_rays(rays)["t_hit"].numpy(),
    )
