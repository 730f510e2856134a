"""A sweep for the command line: make it, and say in words or as JSON what came out."""

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..provenance import provenance
from ..settings import home
from ..settings import profile as profile_
from ..training import split_frames
from .design_file import Design, read_design
from .effects import Effect
from .engines import Engine, plan, run_design
from .results import MEASURES, check_path, compare_arms, effects_of, summary_of_arms, write_table
from .rows import Row, failures, find_folder
from .statistics import Comparison

SHOWN = ("held_out_iou", "training_iou", "floor_distance")
"""Measures of which people are told; JSON has all of :data:`MEASURES`."""

WORDS = {
    "held_out_iou": "IoU, held out (higher is better)",
    "training_iou": "IoU, training (higher is better)",
    "floor_distance": "settled loss over its own loss at p = 1/2, less 1 (lower is better)",
}


def ablate(
    path: Path,
    *,
    engine: Engine,
    workers: int | None,
    threads: int | None,
    address: str | None,
    data: Path | None,
    profile: str | None,
    seeds: int | None,
    output: Path | None,
    runs: Path | None,
    as_json: bool,
    dry_run: bool,
) -> bool:
    """The command ``occlab ablate``; False where a run failed."""
    design, text = read_design(path), path.read_text(encoding="utf-8")
    # Before the runs: of the code and the design that made them, whatever becomes of the files meanwhile.
    made = provenance(shlex.join(["occlab", *sys.argv[1:]]), threads=False)
    design = replace(design, profile=profile_(profile or design.profile).name)
    if seeds is not None:
        design = replace(design, seeds=tuple(range(seeds)))
    about = {"design": str(path), "profile": design.profile}
    if output is not None:
        check_path(output)
    if dry_run:
        tasks = plan(design, *split_frames(data, design.size()))
        found = sum(find_folder(runs or home() / "runs", task.hash) is not None for task in tasks)
        if as_json:
            print(json.dumps(about | {"planned": len(tasks), "found": found}))
        else:
            print(f"{len(tasks)} runs: {len(design.arms)} arms with {len(design.seeds)} seeds each, profile {design.profile}")
            print(f"{found} are there already, {len(tasks) - found} to make")
        return True
    rows = run_design(
        design,
        data=data,
        engine=engine,
        workers=workers,
        threads=threads,
        address=address,
        root=runs,
        progress=not as_json,
    )
    if output is not None:
        write_table(rows, output, design=text, made=made)
    print(json.dumps(about | results(design, rows)) if as_json else describe(design, rows))
    if output is not None and not as_json:
        print(f"\ntable: {output}")
    return not failures(rows)


def results(design: Design, rows: Sequence[Row]) -> dict[str, Any]:
    """Everything that a sweep says, JSON-able: ``runs``, ``arms``, and by measure ``comparisons`` and ``effects``."""
    against = {arm.name: {"arm": arm.name, "against": arm.against, "group": arm.group} for arm in design.arms}
    comparisons, all_effects = {}, {}
    for measure, higher in MEASURES.items():
        made = compare_arms(rows, measure, higher)
        comparisons[measure] = [against[arm] | _plain(comparison) for arm, comparison in made.items()]
        all_effects[measure] = {
            group: [{"effect": e.name, "aliases": list(e.aliases)} | _plain(e.comparison) for e in effects]
            for group, effects in effects_of(design, rows, measure, higher).items()
        }
    return {"runs": list(rows), "arms": summary_of_arms(rows), "comparisons": comparisons, "effects": all_effects}


def _plain(comparison: Comparison) -> dict[str, Any]:
    return asdict(comparison) | {"n": comparison.n, "dropped": list(comparison.dropped)}


def describe(design: Design, rows: Sequence[Row]) -> str:
    """The same for people."""
    parts = [_arms(rows)]
    for measure in SHOWN:
        if all(row[measure] is None for row in rows):
            continue
        if made := compare_arms(rows, measure, MEASURES[measure]):
            against = {arm.name: f"{arm.name}, against {arm.against}" for arm in design.arms}
            parts.append(_judged(f"{WORDS[measure]}: differences", {against[arm]: c for arm, c in made.items()}))
        for group, effects in effects_of(design, rows, measure, MEASURES[measure]).items():
            parts.append(_judged(f"{WORDS[measure]}: effects{group and f', {group}'}", _named(effects)))
    if failed := failures(rows):
        parts.append("\n".join(f"failed: {row['arm']}, seed {row['seed']}: {row['error']}" for row in failed))
    return "\n\n".join(parts)


def _arms(rows: Sequence[Row]) -> str:
    lines = [["arm", "n", "settled loss", "at p = 1/2", "distance", "IoU held out", "IoU training"]]
    for arm in summary_of_arms(rows):
        loss, floor, distance = arm["settled_loss"], arm["half_floor"], arm["floor_distance"]
        lines.append(
            [
                arm["arm"],
                str(arm["n"]) + (f" ({arm['failed']} failed)" if arm["failed"] else ""),
                "-" if loss is None else f"{loss['mean']:.4f}" + ("" if loss["sd"] is None else f" ± {loss['sd']:.4f}"),
                "-" if floor is None else f"{floor['mean']:.4f}",
                "-" if distance is None else f"{100 * distance['mean']:+.1f} %",
                _range(arm["held_out_iou"]),
                _range(arm["training_iou"]),
            ]
        )
    return _columns(lines)


def _range(spread: dict[str, float] | None) -> str:
    return "-" if spread is None else f"{spread['mean']:.3f} [{spread['min']:.3f}, {spread['max']:.3f}]"


def _named(effects: Sequence[Effect]) -> dict[str, Comparison]:
    return {" = ".join([effect.name, *effect.aliases]): effect.comparison for effect in effects}


def _judged(title: str, comparisons: dict[str, Comparison]) -> str:
    lines = [["", "mean", "95 % interval", "p", "verdict"]]
    for name, c in comparisons.items():
        mean = "-" if c.difference is None else f"{c.difference:+.4f}"
        interval = "-" if c.low is None else f"{c.low:+.4f} to {c.high:+.4f}"
        p = "-" if c.adjusted_p is None else f"{c.adjusted_p:.2g}"
        lines.append([name, mean, interval, p, f"{c.verdict}: {c.reason}"])
    return f"{title}; p after Holm's correction\n{_columns(lines)}"


def _columns(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(f"{cell:{w}}" for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)
