"""Runs as tasks of a Ray cluster: on many machines, or on a cluster of its own on this one."""

import logging
import os
import socket
from collections import deque
from collections.abc import Iterator
from typing import Any

import torch

from ..errors import OcclabError, require
from .job import ATTEMPTS, Job, died
from .rows import Row, Task, failed_row


def run_on_ray(
    job: Job, tasks: deque[Task], workers: int | None, threads: int, address: str | None
) -> Iterator[tuple[Task, Row]]:
    """Each task and its row, as they get done. Ray's own retries are off: a run whose worker died is handed in again from
    here, so that its row can say so. Every node needs the same version of occlab, which the rows' hashes make sure of.

    Raises:
        OcclabError: Ray is missing, there is no cluster at the address, this process has joined another one already, or no
            node has processors enough for a run.
    """
    ray = require("ray", extra="sweep")
    started = not ray.is_initialized()
    if not started and address is not None:
        raise OcclabError(
            f"this process has joined a Ray cluster already: expected no address, or ray.shutdown(), got {address!r}"
        )
    if started:
        _start(ray, job, workers, threads, address)
    pending: dict[Any, tuple[Task, int]] = {}
    try:
        largest = max((node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]), default=0)
        if largest < threads:  # Ray would wait for such a node for ever
            raise OcclabError(
                f"expected a node with {threads} processors for the threads of a run, the largest has {largest:g}"
            )
        gpus = 1 if ray.cluster_resources().get("GPU") else 0
        remote = ray.remote(_do).options(num_cpus=threads, num_gpus=gpus, max_retries=0)
        shared = ray.put(job)
        waiting = deque((task, 1) for task in tasks)
        while waiting or pending:
            while waiting and (workers is None or len(pending) < workers):
                task, attempt = waiting.popleft()
                pending[remote.remote(shared, task, attempt, threads)] = (task, attempt)
            (ref,), _ = ray.wait(list(pending), num_returns=1)
            task, attempt = pending.pop(ref)
            try:
                yield task, ray.get(ref)
            except ray.exceptions.RayTaskError as error:  # the task could not even begin
                yield task, failed_row(task, str(error.cause or error).strip().splitlines()[-1], attempt, threads)
            except ray.exceptions.RayError as error:
                if attempt < ATTEMPTS:
                    waiting.appendleft((task, attempt + 1))
                else:
                    yield task, died(task, type(error).__name__, threads)
    finally:
        if pending:
            for ref in pending:
                ray.cancel(ref, force=True)
        if started:
            ray.shutdown()


def _start(ray: Any, job: Job, workers: int | None, threads: int, address: str | None) -> None:
    """Join the cluster at the address, or start one here that needs no network, no dashboard, and little of /dev/shm."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns of a change to come
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        held = sum(points.nbytes for frame in (*job.frames, *job.held_out) for points in (frame.pseudo, frame.lidar))
        ray.init(
            address="local",
            num_cpus=(workers or 1) * threads,
            include_dashboard=False,
            object_store_memory=100_000_000 + 2 * held,
            _node_ip_address="127.0.0.1",
            **quiet,
        )
        return
    try:
        if address != "auto":  # Ray itself tries for minutes
            host, _, port = address.removeprefix("ray://").rpartition(":")
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address=address, **quiet)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise OcclabError(f"expected a Ray cluster at {address!r}, as host:port or auto ({reason})") from error


def _do(job: Job, task: Task, attempt: int, threads: int) -> Row:
    torch.set_num_threads(threads)
    return job.do(task, attempt)
