"""Running a design: in this process, in several, or on a Ray cluster.

One task is one run, and a run is a folder that is found again by its hash: a sweep that was stopped goes on where it was,
and a second call trains nothing. Seeds go one by one, with all arms of the first before any of the second, so that a sweep
stopped early is balanced.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from tqdm.auto import tqdm

from ..errors import OcclabError
from ..frames import Frame
from ..settings import home
from ..training import fast_precision, load_run, run_hash, split_frames
from .design_file import Design
from .job import Job
from .processes import run_in_processes
from .rows import Row, Task, done_row, find_folder

Engine = Literal["here", "processes", "ray"]


def run_design(
    design: Design,
    *,
    data: Path | None = None,
    engine: Engine = "here",
    workers: int | None = None,
    threads: int | None = None,
    address: str | None = None,
    root: Path | None = None,
    only_seeds: Sequence[int] | None = None,
    progress: bool = True,
) -> list[Row]:
    """Train every arm with every seed, and return a row a run; see :data:`COLUMNS`.

    ``here``: in this process, one run after another. ``processes``: one process for each CUDA device; without CUDA as many
    as ``workers`` says. ``ray``: one Ray task a run, on one GPU where the cluster has any; the frames travel once through the
    object store, and a row comes back with its numbers, so that the table is right also where nodes share no file system. To
    find runs again, and to go on with one whose node died, ``root`` must lie on a file system that all nodes share.

    A run that fails is a row that says why, and the others go on. A run whose worker died goes on from its last checkpoint,
    up to two more times, and its row says how many attempts it took. With the same number of threads every engine gives the
    same numbers.

    Args:
        data: a SemanticKITTI root or a folder of frames; None: simulated streets.
        workers: runs at a time, for ``processes`` and ``ray``; by default one for each CUDA device, else one; on a cluster
            with an address, as many as it has room for.
        threads: of the processor, for each run, where the last digits of a loss may depend on them; by default torch's own
            number shared among the workers, and 1 on a cluster with an address.
        address: of a Ray cluster, or "auto"; None starts one here, for as long as the sweep takes.
        root: where run folders lie; by default ``settings.home() / "runs"``.
        only_seeds: some of the design's seeds.
        progress: show a bar over the runs.

    Raises:
        OcclabError: bad frames or settings, a missing Ray.
    """
    if engine not in ("here", "processes", "ray"):
        raise OcclabError(f"engine must be here, processes or ray, got {engine!r}")
    for name, value in (("workers", workers), ("threads", threads)):
        if value is not None and (type(value) is not int or value < 1):
            raise OcclabError(f"{name} must be a whole number of at least 1, got {value!r}")
    if address is not None and engine != "ray":
        raise OcclabError(f"an address is a Ray cluster's, and the engine is {engine}")
    if workers is not None and engine == "here":
        raise OcclabError(f"the engine here makes one run after another, got workers={workers}; processes and ray take workers")
    frames, held_out = split_frames(data, design.size())
    tasks = plan(design, frames, held_out, only_seeds)
    root = (root or home() / "runs").absolute()
    root.mkdir(parents=True, exist_ok=True)
    rows: dict[tuple[str, int], Row] = {}
    with tqdm(total=len(tasks), desc="runs", unit="run", disable=not progress) as bar:
        for task, row in _all(tasks, frames, held_out, root, engine, workers, threads, address):
            rows[task.arm.name, task.config.seed] = row
            bar.set_postfix_str(task.name, refresh=False)
            bar.update()
    return [rows[task.arm.name, task.config.seed] for task in tasks]


def plan(
    design: Design, frames: Sequence[Frame], held_out: Sequence[Frame], only_seeds: Sequence[int] | None = None
) -> list[Task]:
    """The runs of a design, in the order in which they are made. Where the design does not set the precision, it is
    :func:`occlab.training.fast_precision` of this machine, for all runs alike."""
    seeds = design.seeds if only_seeds is None else tuple(only_seeds)
    if unknown := sorted(set(seeds) - set(design.seeds)):
        raise OcclabError(f"the design has no seed {unknown[0]}; it has {', '.join(map(str, design.seeds))}")
    fast, tasks = fast_precision(), []
    for seed in seeds:
        for arm in design.arms:
            config = design.config(arm, seed)
            if "precision" not in {**(design.base or {}), **arm.changes}:
                config = replace(config, precision=fast)
            tasks.append(Task(arm, config, run_hash(config, frames, held_out)))
    return tasks


def _all(
    tasks: Sequence[Task],
    frames: Sequence[Frame],
    held_out: Sequence[Frame],
    root: Path,
    engine: Engine,
    workers: int | None,
    threads: int | None,
    address: str | None,
) -> Iterator[tuple[Task, Row]]:
    """Each task and its row, as they get done; what is there already comes first and starts no worker."""
    left: deque[Task] = deque()
    for task in tasks:
        if folder := find_folder(root, task.hash):
            yield task, done_row(task, load_run(folder))
        else:
            left.append(task)
    if not left:
        return
    job = Job(frames, held_out, root)
    if engine == "here":
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(threads or before)
            for task in left:
                yield task, job.do(task)
        finally:
            torch.set_num_threads(before)
        return
    if address is None:
        workers = workers or max(1, torch.cuda.device_count())
        threads = threads or max(1, torch.get_num_threads() // workers)
    if engine == "processes":
        yield from run_in_processes(job, left, workers, threads)
    else:
        from .cluster import run_on_ray

        yield from run_on_ray(job, left, workers, threads or 1, address)
