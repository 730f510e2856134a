"""What the doctor costs: the watch over a training loop, and an examination, both beside the plain training step."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from timing import Candidate, interleave, table
from torch import Tensor, nn

from occlab import OccupancyLoss, OccupancyUNet, UNetConfig, VoxelGrid, bev_features, occupancy, voxelize
from occlab.diagnosis.doctor import diagnose
from occlab.diagnosis.finding import Report
from occlab.diagnosis.setups import ARCHITECTURES, batch, network
from occlab.diagnosis.watch import Watch, watch
from occlab.frames.store import read_store

EVERY = 50
"""The watch's default interval."""
FRAMES = Path(__file__).parents[1] / "data_samples"

Batch = tuple[Tensor, Tensor]


def tables(device: str, quick: bool, left_out: list[str]) -> list[dict[str, Any]]:
    small = "U-Net of 27,000 parameters, 2 x 12 x 24 x 24 -> 8 heights"
    setups = [(small, lambda: network(ARCHITECTURES[0], 0), batch(ARCHITECTURES[0], 0))]
    if not quick:
        large = "U-Net at quarter width, 1 x 256 x 180 x 180 -> 32 heights"
        setups.append((large, partial(_unet, "logits"), _street()))
    content = []
    for name, make, data in setups:
        data = tuple(t.to(device) for t in data)
        seconds, least = (0.3, 2) if quick else (60.0, 5)
        candidates, watches = _loops(make, data, device)
        interleave(candidates, seconds, least=least, device=device)
        for _, w in watches:
            w.__exit__(None, None, None)
        content.append(_beside_a_step(table(f"{name}: {EVERY} training steps, fp32", candidates), "× plain"))
    for name, make, data in setups:
        data = tuple(t.to(device) for t in data)
        steps = 20 if quick or data[0].shape[-1] == 180 else 50
        candidates = [Candidate("one training step", partial(_steps, *_training(make, device), data, 1))]
        candidates.append(_examination("occlab.diagnose", make, data, steps, device))
        if data[0].shape[-1] == 180:
            stood = "occlab.diagnose, the network as it stood"
            candidates.append(_examination(stood, partial(_unet, "rectified"), data, steps, device))
        interleave(candidates, 0.3 if quick else 20.0, least=1 if quick else 2, device=device)
        content.append(_beside_a_step(table(f"{name}: an examination with probes of {steps} steps", candidates), "in steps"))
    return content


def _loops(make: Callable[[], nn.Module], data: Batch, device: str) -> tuple[list[Candidate], list[tuple[Any, Watch]]]:
    """50 steps without a watch, under one at its default interval, and under one that looks at every step."""
    candidates = [Candidate("plain", partial(_steps, *_training(make, device), data, EVERY))]
    watches = []
    for name, every in (("watched", EVERY), ("watched, a look at every step", 1)):
        model, optimizer = _training(make, device)
        w = watch(model, optimizer, every=every).__enter__()
        watches.append((model, w))
        candidates.append(Candidate(name, partial(_steps, model, optimizer, data, EVERY, w)))
    return candidates, watches


def _examination(name: str, make: Callable[[], nn.Module], data: Batch, steps: int, device: str) -> Candidate:
    model, optimizer = _training(make, device)

    def said(report: Report) -> dict[str, Any]:
        return {"cause": report.cause or "none", "findings": len(report.findings)}

    return Candidate(name, lambda: diagnose(model, data, OccupancyLoss(), optimizer=optimizer, steps=steps), said)


def _training(make: Callable[[], nn.Module], device: str) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = make().to(device).train()
    return model, torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01)


def _steps(
    model: nn.Module, optimizer: torch.optim.Optimizer, data: Batch, count: int, w: Watch | None = None
) -> Tensor:  # fmt: skip
    loss_fn = OccupancyLoss()
    for _ in range(count):
        optimizer.zero_grad()
        loss = loss_fn(model(data[0]), data[1])
        loss.backward()
        optimizer.step()
        if w is not None:
            w.step(loss)
    return loss.detach()


def _unet(head: str) -> nn.Module:
    return OccupancyUNet(UNetConfig(width=0.25, head=head))


def _street() -> Batch:
    """Features of the pseudo points and occupancy of the LiDAR, of the first frame that ships."""
    frame, grid = read_store(FRAMES, limit=1)[0], VoxelGrid()
    features = bev_features(voxelize(torch.from_numpy(frame.pseudo), grid))
    return features, occupancy(torch.from_numpy(frame.lidar), grid).float()


def _beside_a_step(content: dict[str, Any], name: str) -> dict[str, Any]:
    """The ratios under a name that says what they are to."""
    for row in content["rows"]:
        row[name], row[f"{name} (min)"] = row.pop("ratio"), row.pop("min_ratio")
        for column in ("cause", "findings"):  # last, and only of examinations
            if column in row:
                row[column] = row.pop(column)
    return content
