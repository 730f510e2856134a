"""The doctor inside other people's training loops, with stand-ins for the loops."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from occlab import OcclabError, diagnosis
from occlab.interop import WatchCallback, WatchHook


class Watching:
    """Stands in for occlab.diagnosis.watch: notes what it is told."""

    def __init__(self, model, optimizer, *, every=50, clip_norm=None):
        self.told = {"model": model, "optimizer": optimizer, "every": every, "clip_norm": clip_norm}
        self.events = []

    def __enter__(self):
        self.events.append("enter")
        return self

    def __exit__(self, *error):
        self.events.append("exit")

    def step(self, loss):
        self.events.append(float(loss))

    def report(self):
        return f"the report, {len(self.events)} events"


@pytest.fixture
def made(monkeypatch):
    """Every watch that was made."""
    made = []

    def watch(*arguments, **settings):
        made.append(Watching(*arguments, **settings))
        return made[-1]

    monkeypatch.setattr(diagnosis, "watch", watch, raising=False)
    return made


def stand_in(monkeypatch, name, **contents):
    parts = name.split(".")
    for i in range(1, len(parts) + 1):
        monkeypatch.setitem(sys.modules, ".".join(parts[:i]), ModuleType(".".join(parts[:i])))
    for key, value in contents.items():
        setattr(sys.modules[name], key, value)


def trainer(**changes):
    model = torch.nn.Linear(2, 1)
    settings = {
        "optimizers": [torch.optim.SGD(model.parameters(), 0.1)],
        "global_step": 0,
        "gradient_clip_val": 0.5,
        "gradient_clip_algorithm": None,
        "accumulate_grad_batches": 2,
        "is_global_zero": True,
    }
    return model, SimpleNamespace(**(settings | changes))


def test_the_callback_counts_optimizer_steps_and_reports_once(monkeypatch, made):
    stand_in(monkeypatch, "lightning.pytorch", Callback=object)
    said = []
    callback, (model, loop) = WatchCallback(every=7, say=said.append), trainer()
    callback.on_train_start(loop, model)
    for batch in range(6):
        loop.global_step = (batch + 1) // 2
        callback.on_train_batch_end(loop, model, {"loss": torch.tensor(0.25 * (batch + 1))}, None, batch)
    callback.on_train_batch_end(loop, model, None, None, 6)
    callback.on_train_end(loop, model)
    callback.on_exception(loop, model, KeyboardInterrupt())
    (watching,) = made
    assert watching.told == {"model": model, "optimizer": loop.optimizers[0], "every": 7, "clip_norm": 0.5}
    assert watching.events == ["enter", 1.0, 2.0, 3.0, "exit"]
    assert said == ["the report, 5 events"]
    assert callback.report == "the report, 5 events"


def test_the_callback_reports_what_it_saw_before_an_interrupt(monkeypatch, made):
    stand_in(monkeypatch, "lightning.pytorch", Callback=object)
    said = []
    callback, (model, loop) = WatchCallback(clip_norm=3.0, say=said.append), trainer(gradient_clip_algorithm="value")
    callback.on_train_start(loop, model)
    callback.on_exception(loop, model, KeyboardInterrupt())
    assert made[0].told["clip_norm"] == 3.0
    assert said == ["the report, 2 events"]


def test_a_norm_is_no_bound_on_values(monkeypatch, made):
    stand_in(monkeypatch, "lightning.pytorch", Callback=object)
    callback, (model, loop) = WatchCallback(), trainer(gradient_clip_algorithm="value")
    callback.on_train_start(loop, model)
    assert made[0].told["clip_norm"] is None


def test_several_optimizers_are_refused_at_the_start(monkeypatch, made):
    stand_in(monkeypatch, "lightning.pytorch", Callback=object)
    with pytest.raises(OcclabError, match="one optimizer, got 2"):
        WatchCallback().on_train_start(trainer(optimizers=[1, 2])[1], None)
    stand_in(monkeypatch, "mmengine.hooks", Hook=object)
    with pytest.raises(OcclabError, match="one optimizer, got dict"):
        WatchHook().before_train(SimpleNamespace(optim_wrapper={}, model=None))


def test_the_hook_counts_optimizer_steps_and_reports(monkeypatch, made):
    stand_in(monkeypatch, "mmengine.hooks", Hook=object)
    model, said, updates = torch.nn.Linear(2, 1), [], iter([False, True, False, True])
    wrapper = SimpleNamespace(
        optimizer=torch.optim.SGD(model.parameters(), 0.1),
        should_update=lambda: next(updates),
        clip_func=torch.nn.utils.clip_grad_norm_,
        clip_grad_kwargs={"max_norm": 35},
    )
    logger = SimpleNamespace(info=said.append)
    runner = SimpleNamespace(model=SimpleNamespace(module=model), optim_wrapper=wrapper, logger=logger)
    hook = WatchHook(every=9)
    hook.before_train(runner)
    for i in range(4):
        hook.after_train_iter(runner, i, outputs={"loss": torch.tensor(float(i))})
    hook.after_train_iter(runner, 4, outputs=None)
    hook.after_train(runner)
    hook.after_train(runner)
    (watching,) = made
    assert watching.told == {"model": model, "optimizer": wrapper.optimizer, "every": 9, "clip_norm": 35}
    assert watching.events == ["enter", 1.0, 3.0, "exit"]
    assert said == ["the report, 4 events"]


@pytest.mark.parametrize(("make", "name"), [(WatchCallback, "lightning"), (WatchHook, "mmengine")])
def test_an_absent_package_is_one_sentence(monkeypatch, make, name):
    for module in (name, "lightning.pytorch", "mmengine.hooks"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(OcclabError, match=f"{name} could not be imported"):
        make()
