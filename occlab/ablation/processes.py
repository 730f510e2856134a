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

from ..errors import OcclabError
from .job import ATTEMPTS, Job, died
from .rows import Row, Task

READY = "ready"
"""A worker's first word."""


class _Worker:
    """A process that says when it is ready, and takes the job and one task after another through a pipe."""

    def __init__(self, threads: int, device: str | None) -> None:
        context = mp.get_context("spawn")  # a fork of a process that has used CUDA cannot use it
        self.connection, theirs = context.Pipe()
        # Without the job: starting writes the arguments into a pipe that nobody empties where the process dies at once.
        self.process = context.Process(target=_serve, args=(theirs, threads, device), daemon=True)
        self.ready = False
        try:
            self.process.start()
        except RuntimeError:
            if getattr(mp.current_process(), "_inheriting", False):  # a worker, which runs a script that lacks its guard
                sys.exit(1)  # the process that started this one says so
            raise
        theirs.close()  # so that the pipe ends when the process does

    def send(self, message: Any) -> None:
        with suppress(OSError):  # it died: receive() will say so
            self.connection.send(message)

    def receive(self) -> Row | str | None:
        """The row, READY, or None where the process died."""
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

    A worker that dies while it starts counts as one that died under its run.

    Raises:
        OcclabError: a worker cannot start. The processes are spawned: a script that calls this needs its
            ``if __name__ == "__main__":``.
    """
    devices = _devices()
    waiting = deque((task, 1) for task in tasks)
    busy: dict[Connection, tuple[int, Task, int]] = {}
    live: dict[int, _Worker] = {}

    def give(slot: int) -> None:
        if slot not in live:
            live[slot] = _Worker(threads, devices[slot % len(devices)])
        task, attempt = waiting.popleft()
        if live[slot].ready:
            live[slot].send((task, attempt))
        busy[live[slot].connection] = (slot, task, attempt)

    try:
        for slot in range(min(workers, len(waiting))):
            give(slot)
        while busy:
            for connection in wait(list(busy)):
                slot, task, attempt = busy[connection]
                row = live[slot].receive()
                if row == READY:
                    live[slot].ready = True
                    live[slot].send(job)
                    live[slot].send((task, attempt))
                    continue
                del busy[connection]
                if row is None:
                    dead = live.pop(slot)
                    dead.stop()
                    if dead.process.exitcode == 1 and not dead.ready:  # Python's own: the next one would do the same
                        raise OcclabError(
                            "a worker could not start: a script that runs a design in processes needs its "
                            'if __name__ == "__main__": around the call'
                        )
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


def _serve(connection: Connection, threads: int, device: str | None) -> None:
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
        connection.send(READY)
        job: Job = connection.recv()
        while True:
            task, attempt = connection.recv()
            connection.send(job.do(task, attempt, watch=orphaned))
