"""One training step of the U-Net, in the precisions and memory layouts to choose from, against MONAI's U-Nets."""

from collections.abc import Callable
from typing import Any

import torch
from timing import Candidate, interleave, optional, table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from occlab import OccupancyLoss, OccupancyUNet, UNetConfig
from occlab.training.loop import fast_precision


def tables(device: str, quick: bool, left_out: list[str]) -> list[dict[str, Any]]:
    size = 36 if quick else 180
    frames = 4 if device == "cuda" else 1
    content = []
    for width in (0.25,) if quick else (1.0, 0.25):
        seconds, least = (0.3, 2) if quick else ((60.0, 3) if width == 1 else (20.0, 5))
        candidates = _candidates(width, frames, size, device, left_out if not content else [])
        interleave(candidates, seconds, least=least, device=device)
        title = f"Width {width:g}: forward, loss, backward, AdamW; {frames} x 256 x {size} x {size} -> 32 heights"
        content.append(table(title, candidates))
        for row in content[-1]["rows"]:
            row["GFLOP/s"] = row["GFLOP"] / row["median_ms"] * 1e3
    return content


def _candidates(width: float, frames: int, size: int, device: str, left_out: list[str]) -> list[Candidate]:
    def channels(*full: int) -> tuple[int, ...]:
        return tuple(round(c * width) for c in full)

    def ours() -> nn.Module:
        return OccupancyUNet(UNetConfig(width=width, head="logits"))

    bf16 = fast_precision() == "bf16-mixed"  # what occlab trains in, where the hardware computes in it
    if not bf16:
        left_out.append("bf16 (this device does not compute in it)")

    def all_of(name: str, make: Callable[[], nn.Module], layouts: tuple[tuple[str, bool, bool], ...]) -> list[Candidate]:
        torch.manual_seed(0)
        steps = [_step(make(), frames, size, device, last, half) for _, last, half in layouts if bf16 or not half]
        names = [f"{name}, {text}" for text, _, half in layouts if bf16 or not half]
        return [Candidate(n, run, lambda _, facts=facts: facts) for n, (run, facts) in zip(names, steps, strict=True)]

    two = (("fp32 NCHW", False, False), ("bf16 channels last", True, True))
    three = (("fp32 channels last", True, False), *two)
    candidates = all_of("occlab.OccupancyUNet", ours, three if not bf16 else (three[2], three[0], three[1]))

    def monai() -> list[Candidate]:
        from monai.networks.nets import BasicUNet, UNet

        common = {"spatial_dims": 2, "in_channels": 256, "out_channels": 32, "norm": "batch"}
        # As much of ours as they can be: full resolution in the first stage, then one step down (BasicUNet: four).
        unet = {"channels": channels(192, 384, 768), "strides": (1, 2), "num_res_units": 1}
        basic = {"features": channels(256, 192, 256, 256, 256, 192), "act": "relu"}
        return [
            *all_of("MONAI UNet", lambda: UNet(**common, **unet), two),
            *all_of("MONAI BasicUNet", lambda: BasicUNet(**common, **basic), two),
        ]

    return candidates + optional(left_out, "MONAI", monai)


def _step(
    model: nn.Module, frames: int, size: int, device: str, channels_last: bool, half: bool
) -> tuple[Callable[[], Any], dict[str, float]]:
    """A training step to time, and the model's size and work."""
    generator = torch.Generator().manual_seed(0)
    memory = torch.channels_last if channels_last else torch.contiguous_format
    features = torch.randn(frames, 256, size, size, generator=generator).to(device).to(memory_format=memory)
    target = (torch.rand(frames, 32, size, size, generator=generator) < 0.05).float().to(device)
    model = model.to(device).to(memory_format=memory).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01)
    loss_fn = OccupancyLoss()

    def run() -> torch.Tensor:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=half):
            logits = model(features)
        loss = loss_fn(logits, target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    with FlopCounterMode(display=False) as counter:
        run()
    million = sum(p.numel() for p in model.parameters()) / 1e6
    return run, {"million parameters": million, "GFLOP": counter.get_total_flops() / 1e9}
