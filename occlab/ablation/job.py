"""What a worker does: one run, and its row."""

import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import OcclabError
from ..frames import Frame
from ..training import Step, run_hash, train
from .rows import Row, Task, done_row, failed_row, note_making

ATTEMPTS = 3
"""How often a run is begun when its worker dies under it."""


@dataclass(frozen=True)
class Job:
    """What all runs of a sweep share."""

    frames: Sequence[Frame]
    held_out: Sequence[Frame]
    root: Path

    def do(self, task: Task, attempt: int = 1, watch: Callable[[Step], None] | None = None) -> Row:
        """Train, in this process and with its number of threads, and return the row; of a run that failed, too."""
        threads = torch.get_num_threads()
        try:
            if (mine := run_hash(task.config, self.frames, self.held_out)) != task.hash:
                raise OcclabError(f"the worker would make run {mine}, expected {task.hash}: its occlab is another version")
            run = train(task.config, self.frames, self.held_out, name=task.name, root=self.root, progress=False, watch=watch)
            note_making(run.folder, threads, attempt)
            return done_row(task, run)
        except OcclabError as error:
            return failed_row(task, str(error), attempt, threads)
        except Exception as error:  # such as a GPU out of memory: one arm's fault should not cost the others
            traceback.print_exc(file=sys.stderr)
            reason = str(error).strip().partition("\n")[0]
            return failed_row(task, f"{type(error).__name__}: {reason}", attempt, threads)


def died(task: Task, reason: str, threads: int) -> Row:
    """The row of a run whose worker died every time."""
    return failed_row(task, f"the worker died {ATTEMPTS} times, the last time with {reason}", ATTEMPTS, threads)
