"""The command line: occlab simulate | export | frames | train | ablate | doctor | course | workbench.

Exit code 0 on success, 1 where a run or a notebook failed, 2 on bad input, with one sentence on stderr that says what was
expected.
"""

import json as json_
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from .errors import OcclabError, one_line

app = tyro.extras.SubcommandApp()


@app.command
def train(
    *,
    preset: Literal["as-it-stood", "repaired", "recommended"] = "as-it-stood",
    profile: Literal["full", "small", "tiny"] | None = None,
    data: Path | None = None,
    config: Path | None = None,
    head: Literal["rectified", "logits"] | None = None,
    targets: Literal["soft", "hard"] | None = None,
    learning_rate: float | None = None,
    clip_norm: float | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
    precision: Literal["fast", "32-true", "bf16-mixed"] | None = None,
    test: Path | None = None,
    runs: Path | None = None,
    json: bool = False,
) -> None:
    """Train the network, and say where its loss settled and which floor that is.

    Args:
        preset: which training: the one that stalled, the repaired one, or the recommended one with more frames and steps.
        profile: size of the run; by default full with CUDA and small without, or OCCLAB_PROFILE.
        data: a SemanticKITTI root or a folder of frames; by default simulated streets, made once and kept.
        config: a configuration as JSON (the "config" of a run's config.json), instead of preset and profile's size.
        head: rectified (ReLU before the sigmoid, as it stood) or logits.
        targets: soft or hard occupancy.
        learning_rate: of AdamW.
        clip_norm: gradient norm to clip at; 0 for no clipping.
        steps: optimiser steps.
        batch_size: frames a step.
        seed: of initial weights and of the order of the frames; 0 by default.
        precision: fast, the default, is bf16 autocast where the hardware computes in it, else float32.
        test: other frames to score the trained network on, such as real ones: a SemanticKITTI root or a folder of frames.
        runs: folder for the run's folder; by default OCCLAB_HOME/runs.
        json: print one JSON object and no bar.
    """
    from . import training
    from .frames import read_frames
    from .settings import profile as profile_

    size = profile_(profile).for_recipe() if preset == "recommended" else profile_(profile)
    if precision == "fast" or (precision is None and config is None):
        precision = training.fast_precision()
    changes: dict[str, Any] = {"head": head, "targets": targets, "learning_rate": learning_rate, "steps": steps}
    changes |= {"batch_size": batch_size, "seed": seed, "clip_norm": clip_norm, "precision": precision}
    changes = {name: value for name, value in changes.items() if value is not None}
    if clip_norm == 0:
        changes["clip_norm"] = None
    if config is None:
        size = replace(size, steps=size.steps if steps is None else steps)  # a preset's warm-up is a share of them
        settings = training.preset(preset, size, **changes)
    else:
        settings = training.read_config(config)
        if "head" in changes:
            changes["model"] = replace(settings.model, head=changes.pop("head"))
        settings = replace(settings, **changes)

    tests = None if test is None else read_frames(test)  # before an hour of training
    frames, held_out = training.split_frames(data, size)
    if data is not None:
        used, most = len(frames) + len(held_out), size.train_frames + size.held_out_frames
        if used == most:
            print(f"occlab: warning: a run of this size takes the first {most} frames and no more", file=sys.stderr)
        _warn_of_misalignment(frames[:8])
    name = preset if config is None else config.stem
    run = training.train(settings, frames, held_out, name=name, root=runs, progress=not json)
    about = {"preset": name, "profile": size.name if config is None else None}
    result = about | {"head": settings.model.head, "seed": settings.seed} | (run.summary or {})
    if tests is not None:
        result["test"] = training.evaluate(run, tests)
    if json:
        print(json_.dumps(result))
        return
    print(_describe(result))
    print(f"run folder: {run.folder}")


@app.command
def simulate(folder: Annotated[Path, tyro.conf.Positional], *, count: int = 8, seed: int = 0) -> None:
    """Simulate street frames and keep them in a folder; what is there already is kept.

    Args:
        folder: where the frames go, one .npz each.
        count: how many frames.
        seed: of the first one; the others follow.
    """
    from .frames import simulate_frame
    from .frames.store import fill_store

    _check_streets(count, seed)
    names = [f"street-{seed + i:06d}" for i in range(count)]
    frames = fill_store(folder, names, lambda i: simulate_frame(seed + i), "simulating streets")
    print(f"{len(frames)} frames in {folder}")


@app.command
def export(
    format: Annotated[Literal["nuscenes", "semantickitti"], tyro.conf.Positional],
    folder: Annotated[Path, tyro.conf.Positional],
    *,
    count: int = 2,
    seed: int = 0,
) -> None:
    """Write simulated streets as a data set that the format's own tools open.

    Args:
        format: nuscenes (v1.0-mini: tables, sweeps, six cameras, boxes) or semantickitti (sweeps, labels, poses, voxels).
        folder: where the data set goes; one that holds something else is refused.
        count: how many streets.
        seed: of the first one; the others follow.
    """
    from .frames import export_nuscenes, export_semantickitti, simulate_frame

    _check_streets(count, seed)
    frames = [simulate_frame(seed + i) for i in range(count)]
    {"nuscenes": export_nuscenes, "semantickitti": export_semantickitti}[format](frames, folder)
    print(f"{count} streets as {format} in {folder}")


@app.command
def frames(
    path: Annotated[Path, tyro.conf.Positional], *, limit: int = 3, picture: Path | None = None, json: bool = False
) -> None:
    """Say what a file or folder holds: its format, its points and voxels, its masks.

    Args:
        path: a data set, a folder of point clouds or occupancy files, or one of them.
        limit: sweeps or volumes to look into.
        picture: an HTML page to write, with the first of them drawn.
        json: print one JSON object.
    """
    from .frames.guess import show_frames

    print(show_frames(path, limit=limit, as_json=json, picture=picture, draw=_page))


@app.command
def ablate(
    design: Annotated[Path, tyro.conf.Positional],
    *,
    engine: Literal["here", "processes", "ray"] = "here",
    workers: int | None = None,
    threads: int | None = None,
    address: str | None = None,
    data: Path | None = None,
    profile: Literal["full", "small", "tiny"] | None = None,
    seeds: int | None = None,
    output: Path | None = None,
    runs: Path | None = None,
    json: bool = False,
    dry_run: bool = False,
) -> None:
    """Train every arm of a design with every seed, and say which differences the seeds bear out. Exit code 1: a run failed.

    Args:
        design: a YAML file; occlab/ablation/design_file.py describes it.
        engine: here, one run after another; in several processes, one for each CUDA device; or on a Ray cluster.
        workers: runs at a time, for processes and ray; by default one for each CUDA device, else one.
        threads: of the processor, for each run; by default all, shared among the workers.
        address: of a Ray cluster, or auto; by default one is started here.
        data: a SemanticKITTI root or a folder of frames; by default simulated streets.
        profile: size of the runs, instead of the design's.
        seeds: how many, from 0, instead of the design's.
        output: a table with a row a run, .csv or .parquet.
        runs: folder for the run folders; by default OCCLAB_HOME/runs.
        json: print one JSON object and no bar.
        dry_run: only say how many runs there are, and how many of them are made already.
    """
    from .ablation import report

    if seeds is not None and seeds < 1:
        raise OcclabError(f"expected --seeds of at least 1, got {seeds}")
    done = report.ablate(
        design,
        engine=engine,
        workers=workers,
        threads=threads,
        address=address,
        data=data,
        profile=profile,
        seeds=seeds,
        output=output,
        runs=runs,
        as_json=json,
        dry_run=dry_run,
    )
    if not done:
        sys.exit(1)


@app.command
def doctor(
    path: Annotated[Path, tyro.conf.Positional],
    *,
    positive_rate: float | None = None,
    loss: Literal["bce", "bce+dice", "focal", "dice"] | None = None,
    dice_weight: float | None = None,
    pos_weight: float | None = None,
    data: Path | None = None,
    json: bool = False,
    sarif: Path | None = None,
) -> None:
    """Read a training log, and say what keeps the loss from falling. Exit code 1: a check fails.

    Reads mmcv and mmengine logs, Lightning's metrics.csv, TensorBoard events and occlab's own runs. With the options it knows
    the floors of the loss; without them it lists every reading of a plateau that fits. A model tells more than a log:
    occlab.diagnose(model, batch, loss).

    Args:
        path: a log, or a folder with logs in it, of which the newest is read.
        positive_rate: share of occupied cells among those in the loss.
        loss: what the loss is made of.
        dice_weight: of the Dice term beside the cross-entropy; without it 0.5, 1 and 2 are tried.
        pos_weight: of occupied cells in the cross-entropy.
        data: the frames that were trained on, a SemanticKITTI root or a folder of frames: do their clouds lie on each other?
        json: print one JSON object.
        sarif: a SARIF file to write as well, for code scanning.
    """
    from .diagnosis import command

    code = command.doctor(
        path,
        positive_rate=positive_rate,
        loss=loss,
        dice_weight=dice_weight,
        pos_weight=pos_weight,
        data=data,
        json=json,
        sarif=sarif,
    )
    if code:
        sys.exit(code)


@app.command
def course(
    *, notebooks: Path = Path("notebooks"), output: Path = Path("build/course"), refresh: bool = False, only: str = ""
) -> None:
    """Run every notebook of the course in order, and write it executed and as an HTML page. Exit code 1: a cell failed.

    Args:
        notebooks: folder of the notebooks.
        output: folder for the executed notebooks and pages.
        refresh: instead, execute them in place as they are committed, with a picture beside each figure.
        only: with --refresh, those whose name starts so, e.g. 02.
    """
    from . import course as course_

    done = course_.refresh(notebooks, only) if refresh else course_.run_course(notebooks, output)
    if not done:
        sys.exit(1)


@app.command
def workbench(
    *,
    port: int = 0,
    theme: Literal["light", "dark"] = "light",
    browser: bool = True,
    runs: Path | None = None,
    profile: Literal["full", "small", "tiny"] | None = None,
) -> None:
    """Open the workbench as a web page: set a training up, watch it, look at what it predicts. Ctrl-C ends it.

    It answers on this machine only, to the address that it prints. Closing a page ends its training; the run keeps every step,
    and goes on when it is chosen again.

    Args:
        port: of 127.0.0.1; 0 takes a free one.
        theme: of the page.
        browser: open the page in the browser.
        runs: folder for the run folders; by default OCCLAB_HOME/workbench/runs.
        profile: size of the runs; by default full with CUDA and small without, or OCCLAB_PROFILE.
    """
    from .workbench import serve

    serve.serve(port=port, theme=theme, browser=browser, runs=runs, profile=profile)


def _check_streets(count: int, seed: int) -> None:
    if count < 1 or seed < 0:
        raise OcclabError(f"expected --count of at least 1 and --seed of at least 0, got {count} and {seed}")


def _warn_of_misalignment(frames: Sequence[Any]) -> None:
    """Say on stderr what is wrong with the clouds of somebody's frames; train on them all the same."""
    from .alignment import check_alignment

    try:
        found = check_alignment(frames)
    except OcclabError as error:  # no Open3D here, or too few points to tell
        print(f"occlab: alignment not checked: {one_line(error)}", file=sys.stderr)
        return
    for finding in found.findings:
        print(f"occlab: warning: {one_line(f'{found.name}: {finding}')}", file=sys.stderr)


def _page(item: Any) -> str:
    """One sweep, frame or volume as an HTML page that needs no other file."""
    from . import viz
    from .frames.frame import Frame
    from .frames.volume import OccupancyVolume

    if isinstance(item, OccupancyVolume):
        figure = viz.voxel_figure(item.occupied, item.grid, title=item.name)
    elif isinstance(item, Frame):
        figure = viz.clouds_figure({"pseudo": item.pseudo, "LiDAR": item.lidar}, title=item.name)
    else:
        figure = viz.points_figure(item.points, title=item.name)
    return figure.to_html(include_plotlyjs=True)


def _describe(r: dict[str, Any]) -> str:
    """The summary for people."""
    p, where = r["probability"], "that is" if r["on_floor"] else "nearest floor, not reached:"
    end = f"{r['settled_loss']:.3f} ({-100 * r['reduction']:+.1f} %)"
    rows = [
        ("first loss", f"{r['first_loss']:.3f}"),
        ("settled loss", f"{end}; {where} {r['floor_name']!r}, {r['floor']:.3f}"),
        ("gradient norm", f"{r['gradient_norm_min']:.4f} to {r['gradient_norm_max']:.4f}"),
        ("steps clipped", f"{100 * r['clipped_share']:.0f} %"),
        ("probabilities", f"{p['min']:.3f} at the lowest, {p['mean']:.3f} on average"),
        ("IoU, training", f"{r['iou']:.3f}"),
    ]
    if "held_out" in r:
        scores = r["held_out"]
        rows.append(("IoU, held out", f"{scores['batch_statistics']['iou']:.3f} with the batch's BatchNorm statistics"))
        rows.append(("", f"{scores['running_statistics']['iou']:.3f} with its running averages, as model.eval() does"))
        rows.append(("", f"{scores['reestimated_statistics']['iou']:.3f} with averages taken anew over the training frames"))
        rows += [("", f"{trivial['iou']:.3f} {name}, no network") for name, trivial in scores["trivial"].items()]
    if "test" in r:
        rows.append(("IoU, test", f"{r['test']['batch_statistics']['iou']:.3f} with the batch's BatchNorm statistics"))
        rows.append(("", f"{r['test']['running_statistics']['iou']:.3f} with its running averages"))
        rows.append(("", f"{r['test']['the input itself']['iou']:.3f} the input itself, no network"))
    rows += [("ladder" if i == 0 else "", f"{value:.3f} {name}") for i, (name, value) in enumerate(r["ladder"].items())]
    return "\n".join(f"{name:14} {value}" for name, value in rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``occlab`` and ``python -m occlab``."""
    try:
        app.cli(prog="occlab", args=arguments)
    except OcclabError as error:
        print(f"occlab: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        what = f"{error.filename or 'a file'}: {error.strerror or error}"
        print(f"occlab: {one_line(what)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("occlab: interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
