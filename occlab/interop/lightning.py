"""The training doctor inside a Lightning training."""

from collections.abc import Callable
from typing import Any

import torch

from ..errors import OcclabError, require


def WatchCallback(*, every: int = 50, clip_norm: float | None = None, say: Callable[[str], None] = print) -> Any:  # noqa: N802
    """A Lightning callback that watches the training and says at its end what it found.

    ``trainer = Trainer(callbacks=[WatchCallback()])``; the report stays in the callback's ``report``.

    Args:
        every: steps between two looks.
        clip_norm: where gradients are clipped; None: the trainer's ``gradient_clip_val``.
        say: takes the report as text, such as a logger's ``info``.

    Raises:
        OcclabError: Lightning is not installed; at the start of a training, that it has several optimisers.
    """
    base = require("lightning.pytorch", package="lightning", extra="interop").Callback

    class Watch(base):
        report = None

        def __init__(self) -> None:
            super().__init__()
            self.watching: Any = None
            self.steps = 0

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            from ..diagnosis import watch

            if len(trainer.optimizers) != 1:
                raise OcclabError(f"WatchCallback watches a training with one optimizer, got {len(trainer.optimizers)}")
            clip = clip_norm
            if clip is None and trainer.gradient_clip_algorithm in (None, "norm"):
                clip = trainer.gradient_clip_val or None
            self.steps = trainer.global_step
            self.watching = watch(pl_module, trainer.optimizers[0], every=every, clip_norm=clip)
            self.watching.__enter__()

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            stepped, self.steps = trainer.global_step > self.steps, trainer.global_step
            loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
            if self.watching is not None and stepped and isinstance(loss, torch.Tensor):
                # Lightning divides the loss of a batch by the number of batches in a step.
                self.watching.step(loss.detach() * trainer.accumulate_grad_batches)

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            self.finish(trainer)

        def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
            self.finish(trainer)

        def finish(self, trainer: Any) -> None:
            if self.watching is None:
                return
            watching, self.watching = self.watching, None
            watching.__exit__(None, None, None)
            self.report = watching.report()
            if trainer.is_global_zero:
                say(str(self.report))

    return Watch()
