"""Draw docs/plateau.gif: two trainings of the same steps, the output as it stood beside bare logits, in 3-D over their losses.

    OCCLAB_PROFILE=small python scripts/plateau_animation.py        # a minute on 2 cores; needs Chromium

The runs are kept in OCCLAB_HOME/runs and found again. At every moment each network's surest voxels are drawn, as many as the
target has: an output that cannot go under 1/2 would fill the scene otherwise.
"""

from io import BytesIO
from pathlib import Path

import kaleido
from PIL import Image

from occlab import viz
from occlab.settings import profile
from occlab.training import Batches, fast_precision, preset, split_frames, train
from occlab.workbench.knobs import moments

DOCS = Path(__file__).parents[1] / "docs"
WIDTH, SCENES, CURVES = 720, 400, 260  # pixels
HOLD, LAST = 600, 2500  # milliseconds
COLOURS = 96


def main() -> None:
    size = profile().for_sweeps()
    steps = 2 * size.steps
    frames, held_out = split_frames(None, size)
    settings = {"as it stood": {}, "bare logits": {"head": "logits"}}
    common = {"steps": steps, "snapshot_steps": moments(steps), "precision": fast_precision(), "learning_rate": 1e-3}
    configs = {name: preset("as-it-stood", size, **common, **changes) for name, changes in settings.items()}
    runs = {name: train(config, frames, held_out, name=name.replace(" ", "-")) for name, config in configs.items()}
    target = Batches(frames[:1], configs["as it stood"]).targets()[0][0]
    volumes = {name: run.snapshots() for name, run in runs.items()}
    kaleido.start_sync_server(silence_warnings=True)
    pictures = [_picture(step, size.grid, volumes, runs, target) for step in sorted(volumes["as it stood"])]
    kaleido.stop_sync_server(silence_warnings=True)
    first, *others = (picture.quantize(COLOURS) for picture in pictures)
    times = [HOLD] * len(others) + [LAST]
    first.save(DOCS / "plateau.gif", save_all=True, append_images=others, duration=times, loop=0, optimize=True)


def _picture(step, grid, volumes, runs, target) -> Image.Image:
    now = {name: {step: snapshots[step]} for name, snapshots in volumes.items()}
    title = f"Step {step}, learning rate 1e-3"
    scenes = viz.snapshots_pair_figure(now, grid, target=target, surest=int((target > 0).sum()), title=title)
    near = {"eye": {"x": -1.25, "y": -0.2, "z": 1.3}, "center": {"x": -0.1, "y": 0, "z": -0.1}}
    scenes.update_layout(sliders=[], scene_camera=near, scene2_camera=near)
    floor = runs["as it stood"].summary["ladder"]["p = 1/2 everywhere"]
    whole = {name: [(s.step, s.loss) for s in run.steps] for name, run in runs.items()}
    curves = {name: curve[: max(2, step)] for name, curve in whole.items()}
    losses = viz.loss_figure(curves, {"p = 1/2 everywhere": floor}, title="Loss")
    axes = viz.loss_figure(whole, {"p = 1/2 everywhere": floor}).layout
    losses.update_layout(xaxis_range=[0, len(whole["as it stood"])], yaxis_range=axes.yaxis.range)
    picture = Image.new("RGB", (WIDTH, SCENES + CURVES), "white")
    picture.paste(_drawn(scenes, SCENES), (0, 0))
    picture.paste(_drawn(losses, CURVES), (0, SCENES))
    return picture


def _drawn(figure, height: int) -> Image.Image:
    options = {"format": "png", "width": WIDTH, "height": height, "scale": 1}
    return Image.open(BytesIO(kaleido.calc_fig_sync(figure.to_dict(), opts=options)))


if __name__ == "__main__":
    main()
