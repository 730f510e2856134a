"""Runs in several processes on this machine: one for each CUDA device, or several that share the cores."""

import multiprocessing as mp
import os
import signal
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from threading import RLock
from typing import Any

import torch
from tqdm.auto import tqdm

from .job import ATTEMPTS, Job, died
from .rows import Row, Task


class _Worker:
    """A process that takes one task after another through a pipe."""

    def __init__(self, job: Job, threads: int, device: str | None) -> None:
        context = mp.get_context("spawn")  # a fork of a process that has used CUDA cannot use it
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, job, threads, device), daemon=True)
        self.process.start()
        theirs.close()  # so that the pipe ends when the process does

    def send(self, task: Task, attempt: int) -> None:
        with suppress(OSError):  # it died: receive() will say so
            self.connection.send((task, attempt))

    def receive(self) -> Row | None:
        """The row, or None where the process died."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            return None

    def stop(self) -> None:
        self.process.kill()  # nothing is lost: files are written atomically
        self.process.join()
        self.connection.close()


def run_in_processes(job: Job, tasks: deque[Task], workers: int, threads: int) -> Iterator[tuple[Task, Row]]:
    """Each task and its row, as they get done. A worker that died is replaced, and its run goes on from its checkpoint.

    The processes are spawned: a script that calls this needs its ``if __name__ == "__main__":``.
    """
    devices = _devices()
    waiting = deque((task, 1) for task in tasks)
    busy: dict[Connection, tuple[int, Task, int]] = {}
    live: dict[int, _Worker] = {}

    def give(slot: int) -> None:
        if slot not in live:
            live[slot] = _Worker(job, threads, devices[slot % len(devices)])
        task, attempt = waiting.popleft()
        live[slot].send(task, attempt)
        busy[live[slot].connection] = (slot, task, attempt)

    try:
        for slot in range(min(workers, len(waiting))):
            give(slot)
        while busy:
            for connection in wait(list(busy)):
                slot, task, attempt = busy.pop(connection)
                row = live[slot].receive()
                if row is None:
                    dead = live.pop(slot)
                    dead.stop()
                    if attempt < ATTEMPTS:
                        waiting.appendleft((task, attempt + 1))
                    else:
                        row = died(task, f"exit code {dead.process.exitcode}", threads)
                if waiting:
                    give(slot)
                if row is not None:
                    yield task, row
    finally:
        for worker in live.values():
            worker.stop()


def _devices() -> list[str | None]:
    """What CUDA_VISIBLE_DEVICES must be for each device here; [None] without CUDA."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
    return names[: torch.cuda.device_count()] or [None]


def _serve(connection: Connection, job: Job, threads: int, device: str | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the one that started this one decides
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    tqdm.set_lock(RLock())  # its own is a semaphore, which a kill would leave behind
    torch.set_num_threads(threads)
    parent = mp.parent_process()

    def orphaned(_: Any) -> None:
        if parent is not None and not parent.is_alive():
            sys.exit(1)

    with suppress(EOFError, OSError):
        while True:
            task, attempt = connection.recv()
            connection.send(job.do(task, attempt, watch=orphaned))
