"""Jobs whose worker dies; in a module of their own, because the workers import it."""

import os
import signal

from occlab.ablation.job import Job


class Fragile(Job):
    """One of the runs dies under its worker, once and in the middle, as from the kernel's out-of-memory killer."""

    def do(self, task, attempt=1, watch=None):
        def kill(step):
            if step.step == 6:
                os.kill(os.getpid(), signal.SIGKILL)

        doomed = (task.arm.name, task.config.seed, attempt) == ("logits", 1, 1)
        return super().do(task, attempt, kill if doomed else watch)


class Dead(Job):
    """Every run dies."""

    def do(self, task, attempt=1, watch=None):
        os._exit(7)
