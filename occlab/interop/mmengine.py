"""The training doctor inside an mmengine training."""

from collections.abc import Callable
from typing import Any

from ..errors import OcclabError, require


def WatchHook(*, every: int = 50, clip_norm: float | None = None, say: Callable[[str], None] | None = None) -> Any:  # noqa: N802
    """An mmengine hook that watches the training and says at its end what it found.

    ``Runner(..., custom_hooks=[WatchHook()])``; the report stays in the hook's ``report``.

    Args:
        every: steps between two looks.
        clip_norm: where gradients are clipped; None: ``max_norm`` of the optimiser wrapper's ``clip_grad``.
        say: takes the report as text; None: the runner's logger.

    Raises:
        OcclabError: mmengine is not installed; at the start of a training, that it has several optimisers.
    """
    base = require("mmengine.hooks", package="mmengine", extra="interop").Hook

    class Watch(base):
        report = None
        watching: Any = None

        def before_train(self, runner: Any) -> None:
            from ..diagnosis import watch

            wrapper = runner.optim_wrapper
            if not hasattr(wrapper, "should_update"):
                raise OcclabError(f"WatchHook watches a training with one optimizer, got {type(wrapper).__name__}")
            clip = clip_norm
            if clip is None and getattr(wrapper, "clip_func", None) is not None and "max_norm" in wrapper.clip_grad_kwargs:
                clip = wrapper.clip_grad_kwargs["max_norm"]
            model = getattr(runner.model, "module", runner.model)
            self.watching = watch(model, wrapper.optimizer, every=every, clip_norm=clip)
            self.watching.__enter__()

        def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
            loss = (outputs or {}).get("loss")
            if self.watching is not None and loss is not None and runner.optim_wrapper.should_update():
                self.watching.step(loss)

        def after_train(self, runner: Any) -> None:
            if self.watching is None:
                return
            watching, self.watching = self.watching, None
            watching.__exit__(None, None, None)
            self.report = watching.report()
            (say or runner.logger.info)(str(self.report))

    return Watch()
