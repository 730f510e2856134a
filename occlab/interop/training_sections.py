"""Optimiser, clipping, schedule, batch and length of a run, out of the sections that mmcv 1.x and mmengine give them.

A section that is there means what its framework takes it to mean, its defaults included: no ``clip_grad`` is no clipping.
A section that is absent, or that a base file may complete, leaves what TrainConfig has.
"""

import math

from .notes import Section
from .python_file import NotUnderstood, shown

TORCH = {"adamw": {"learning_rate": 1e-3}, "sgd": {"learning_rate": 1e-3, "momentum": 0.0, "weight_decay": 0.0}}
"""PyTorch's own defaults, where they are not TrainConfig's."""


def read_mmcv(root: Section) -> None:
    """``optimizer``, ``optimizer_config``, ``lr_config``, ``data``, ``runner``, ``fp16``, ``seed``."""
    complete = not root.notes.file.bases
    if optimizer := root.section("optimizer"):
        read_optimizer(optimizer, complete)
        if paramwise := optimizer.section("paramwise_cfg"):
            read_paramwise(paramwise)
        optimizer.finish()
    if config := root.section("optimizer_config"):
        read_clipping(config, "grad_clip", complete)
        config.name()
        config.finish()
    if runner := root.section("runner"):
        runner.name()
        _read_length(runner)
        runner.finish()
    elif "total_epochs" in root:
        _drop_epochs(root, "total_epochs")
    root.taken.add("total_epochs")  # beside a runner, what mmdetection3d's old files say twice
    if schedule := root.section("lr_config"):
        read_lr_config(schedule)
        schedule.finish()
    if data := root.section("data"):
        _say_number(data, "batch_size", "samples_per_gpu")
        data.taken.add("train")
        data.finish()
    if root.take("fp16") is not None:
        root.drop("fp16", "float16 with a scaled loss; occlab trains in 32-true or bf16-mixed")
    _say_number(root, "seed", "seed")


def read_mmengine(root: Section) -> None:
    """``optim_wrapper``, ``param_scheduler``, ``train_cfg``, ``train_dataloader``, ``randomness``."""
    complete = not root.notes.file.bases
    if wrapper := root.section("optim_wrapper"):
        _read_wrapper(wrapper, complete)
    if length := root.section("train_cfg"):
        length.name()
        length.take("by_epoch")
        _read_length(length)
        length.finish()
    if "param_scheduler" in root:
        read_param_scheduler(root)
    if loader := root.section("train_dataloader"):
        _say_number(loader, "batch_size", "batch_size")
        loader.taken.add("dataset")
        loader.finish()
    if randomness := root.section("randomness"):
        _say_number(randomness, "seed", "seed")
        randomness.finish()
    for key in ("optimizer", "optimizer_config", "lr_config", "runner"):
        if key in root and key not in root.notes.file.used:
            root.taken.add(key)
            root.idle(key, "mmengine does not read this; the file has mmengine's own sections")


def _read_wrapper(wrapper: Section, complete: bool) -> None:
    kind = wrapper.name() or "OptimWrapper"
    if kind == "OptimWrapper":
        wrapper.say("precision", "32-true", "type" if "type" in wrapper else None)
    elif kind == "AmpOptimWrapper":
        precision = wrapper.name("dtype")
        wrapper.take("loss_scale")
        if precision == "bfloat16":
            wrapper.say("precision", "bf16-mixed", "dtype")
        else:
            wrapper.drop("type", f"{precision or 'float16'} with a scaled loss; occlab trains in 32-true or bf16-mixed")
    else:
        wrapper.drop("type", f"occlab has no optimiser wrapper {shown(kind)}")
    if optimizer := wrapper.section("optimizer"):
        read_optimizer(optimizer, complete)
        optimizer.finish()
    if paramwise := wrapper.section("paramwise_cfg"):
        read_paramwise(paramwise)
    read_clipping(wrapper, "clip_grad", complete)
    if (counts := wrapper.number("accumulative_counts", 1)) != 1:
        wrapper.drop("accumulative_counts", f"gradients of {counts} batches are added up; occlab steps after each batch")
    wrapper.finish()


def read_optimizer(section: Section, complete: bool) -> None:
    """AdamW and SGD with their settings; Adam where it is the same as AdamW, without weight decay."""
    kind = section.name()
    decay = section.number("weight_decay")
    known = {"AdamW": "adamw", "SGD": "sgd"} | ({"Adam": "adamw"} if not decay and complete else {})
    if kind in known:
        section.say("optimizer", known[kind], "type")
        if complete:
            for name, value in (TORCH[known[kind]] | ({"weight_decay": 0.0} if kind == "Adam" else {})).items():
                section.say(name, value, where=f"{section.where()}, by PyTorch's default")
    elif kind:
        section.drop("type", f"occlab trains with AdamW or SGD, not {shown(kind)}")
    _say_number(section, "learning_rate", "lr")
    if decay is not None:
        section.say("weight_decay", decay, "weight_decay")
    if kind == "SGD":
        _say_number(section, "momentum", "momentum")
    else:
        _say_number(section, "adam_epsilon", "eps")
        betas = section.take("betas", (0.9, 0.999))
        if not isinstance(betas, list | tuple) or tuple(betas) != (0.9, 0.999):
            section.drop("betas", f"occlab's AdamW has betas 0.9 and 0.999, not {shown(betas)}")


def read_paramwise(section: Section) -> None:
    """``custom_keys``; a multiplier of 1 among the others changes nothing, the rest is not carried."""
    custom = section.section("custom_keys")
    if custom:
        keys = {}
        for key in custom.values:
            if (chosen := custom.section(key)) is None:
                continue
            names = [name for name in ("lr_mult", "decay_mult") if name in chosen]
            keys[key] = {name: value for name in names if (value := chosen.number(name)) is not None}
            chosen.finish()
        section.say("custom_keys", keys, "custom_keys")
    for key, value in section.values.items():
        if key not in section.taken and type(value) in (int, float) and value == 1 and key.endswith("_mult"):
            section.taken.add(key)
            section.idle(key, "a multiplier of 1 changes nothing")
    section.finish()


def read_clipping(section: Section, key: str, complete: bool) -> None:
    if key not in section:
        if complete and not isinstance(section.values.get(key), NotUnderstood):
            section.say("clip_norm", None, where=f"{section.where()}, which has no {key}")
        return
    if section.values[key] is None:
        section.take(key)
        section.say("clip_norm", None, key)
        return
    clip = section.section(key)
    if clip is None:
        return
    kind, power = clip.take("type", "norm"), clip.number("norm_type", 2)
    if kind != "norm":
        clip.take("clip_value")
        clip.drop("type", f"clipping by {shown(kind)}; occlab clips the norm of the gradient")
    elif power != 2:
        clip.take("max_norm")
        clip.drop("norm_type", f"a norm of power {power}; occlab clips by the Euclidean norm, power 2")
    elif "max_norm" not in clip:
        clip.drop(None, "there is no max_norm to clip at")
    elif clip.values["max_norm"] is None:
        clip.take("max_norm")
        clip.say("clip_norm", None, "max_norm")
        if "norm_type" in clip:
            clip.idle("norm_type", "nothing is clipped, so that its norm changes nothing")
    else:
        _say_number(clip, "clip_norm", "max_norm")
    clip.finish()


def read_lr_config(section: Section) -> None:
    """mmcv 1.x: a policy and a warm-up."""
    policy = section.take("policy", "")
    policy = policy.lower() if isinstance(policy, str) else ""
    warmup = _read_warmup(section)
    if policy == "fixed":
        section.say("schedule", "constant", "policy")
        section.take("by_epoch")
    elif policy in ("cosineannealing", "flatcosineannealing"):
        _note_epochs(section, "by_epoch")
        flat = section.number("start_percent", 0.75) if policy == "flatcosineannealing" else 0.0
        section.say("schedule", "cosine", "policy")
        _check_end(section, "min_lr_ratio", "min_lr")
        _check_cosine_start(section, flat, warmup)
    elif policy == "onecycle":
        section.take("by_epoch")
        _read_one_cycle(section, "max_lr")
    elif policy:
        section.drop("policy", f"occlab has no schedule {shown(policy)}, only constant, cosine and one-cycle")
        section.taken |= {"step", "gamma", "power", "min_lr", "min_lr_ratio", "by_epoch", "periods", "restart_weights"}


def _read_warmup(section: Section) -> int:
    kind, steps = section.take("warmup"), section.number("warmup_iters")
    ratio, by_epoch = section.number("warmup_ratio", 0.1), section.take("warmup_by_epoch", False)
    if kind is None or not steps:
        if kind is not None or steps:
            section.idle("warmup", "a warm-up of 0 steps" if kind else "warmup_iters without a warmup")
        return 0
    if ratio == 1:
        section.idle("warmup", "a warm-up from the full rate")
        return 0
    if by_epoch:
        section.drop("warmup_by_epoch", f"a warm-up of {steps} epochs; occlab counts in steps")
        return 0
    if kind != "linear":
        section.drop("warmup", f"a warm-up of kind {shown(kind)}; occlab's is linear")
        return 0
    section.say("warmup_steps", steps, "warmup_iters")
    _check_third(section, "warmup_ratio", ratio)
    return steps


def _check_third(section: Section, key: str, start: float) -> None:
    if abs(start - 1 / 3) > 1e-3:
        section.drop(key, f"the warm-up starts at {start:g} of the learning rate; occlab's starts at 1/3")


def _check_end(section: Section, ratio_key: str, absolute_key: str) -> None:
    ratio, absolute = section.number(ratio_key), section.number(absolute_key)
    if ratio is None:
        rate = section.notes.value("learning_rate")
        ratio = 0.0 if absolute is None or not rate else absolute / rate
    if not math.isclose(ratio, 1e-3, rel_tol=1e-6):
        section.drop(ratio_key, f"the cosine ends at {ratio:g} of the learning rate; occlab's ends at 1/1000")


def _check_cosine_start(section: Section, flat: float, warmup: int) -> None:
    """mmcv's cosine starts with the run, occlab's when the warm-up is over: at its end they may differ."""
    steps = section.notes.value("steps")
    if not steps or not warmup < steps:
        return
    start = round(steps * flat)
    there = (1 + math.cos(math.pi * (warmup - start) / max(1, steps - start))) / 2 if warmup > start else 1.0
    if there < 0.99 or start > warmup + 1:
        section.drop(
            "policy",
            f"the cosine starts at step {start}, occlab's after the warm-up: at step {max(start, warmup)} "
            f"the rate is {there:.2f} of the peak here",
        )


def _note_epochs(section: Section, key: str) -> None:
    if section.take(key, True):
        section.drop(key, "the rate changes once an epoch; occlab's changes every step")


def read_param_scheduler(root: Section) -> None:
    """mmengine: a list of schedulers, each over its own steps."""
    listed = root.take("param_scheduler")
    listed = [listed] if isinstance(listed, dict) else listed
    if listed is None:
        listed = []
    if not isinstance(listed, list | tuple):
        return root.drop("param_scheduler", f"expected a list of dict(...), got {shown(listed)}")
    carried = True
    for i, values in enumerate(listed):
        if isinstance(values, dict):
            section = Section(values, (*root.path, "param_scheduler", f"[{i}]"), root.notes)
            carried &= _read_scheduler(section)
            section.finish()
        else:
            carried = False
    if not carried and root.notes.said.pop("schedule", None):
        root.drop("param_scheduler", "not carried in part, so that the schedule is not carried at all")
    elif carried and "schedule" not in root.notes.said:
        root.say("schedule", "constant", "param_scheduler")
    return None


def _read_scheduler(section: Section) -> bool:
    """Whether occlab has this scheduler of the learning rate; one of the momentum is reported, and changes no rate."""
    kind, begin, end = section.name(), section.number("begin", 0), section.number("end")
    if kind == "LinearLR" and not begin and "warmup_steps" not in section.notes.said:
        return _read_linear(section, end)
    if kind == "ConstantLR" and not begin and end == 2 and abs(section.number("factor", 1 / 3) - 1 / 3) < 1e-3:
        _note_epochs(section, "by_epoch")
        section.say("warmup_steps", 1, "end")  # the first step at a third, as in a linear warm-up of one step
        return True
    if kind in ("CosineAnnealingLR", "CosineAnnealingParamScheduler") and "schedule" not in section.notes.said:
        _note_epochs(section, "by_epoch")
        section.taken.add("convert_to_iter_based")
        section.say("schedule", "cosine", "type")
        _check_end(section, "eta_min_ratio", "eta_min")
        _check_span(section, begin, end)
        return True
    if kind == "OneCycleLR" and "schedule" not in section.notes.said:
        section.taken |= {"by_epoch", "convert_to_iter_based"}
        _read_one_cycle(section, "eta_max")
        return True
    if kind.endswith("Momentum"):
        section.drop("type", f"{shown(kind)} changes the momentum; occlab keeps it as it is")
    else:
        unit = "epoch" if section.values.get("by_epoch", True) else "step"
        section.drop("type", f"occlab has no schedule {shown(kind)} from {unit} {begin} to {end}")
    section.taken = set(section.values)
    return kind.endswith("Momentum")


def _read_linear(section: Section, end: float | None) -> bool:
    start, last = section.number("start_factor", 1 / 3), section.number("end_factor", 1.0)
    section.taken.add("convert_to_iter_based")
    if not end or start == last == 1:
        section.idle(None, "a warm-up of 0 steps" if not end else "a warm-up from the full rate")
    elif last != 1:
        section.drop("end_factor", f"the warm-up ends at {last:g} of the learning rate; occlab's ends at 1")
    elif section.take("by_epoch", True):
        section.drop("by_epoch", f"a warm-up of {end} epochs; occlab counts in steps")
    else:
        section.say("warmup_steps", end, "end")
        _check_third(section, "start_factor", start)
    section.taken.add("by_epoch")
    return last == 1


def _check_span(section: Section, begin: float, end: float | None) -> None:
    """occlab's cosine goes from the end of the warm-up to the last step."""
    steps, warmup = section.notes.value("steps"), section.notes.value("warmup_steps", 0)
    span = section.number("T_max") or (end - begin if end is not None else None)
    if steps and span and (abs(span - (steps - begin)) > 1 or begin != warmup):
        section.drop(
            "T_max",
            f"the cosine goes over {span:g} steps from step {begin:g} of {steps}; "
            f"occlab's goes from the end of the warm-up, step {warmup}, to the last",
        )


def _read_one_cycle(section: Section, key: str) -> None:
    """PyTorch's one-cycle with its defaults. Its peak is the learning rate, whatever the optimiser's section says."""
    notes = section.notes
    section.say("schedule", "one-cycle", "policy" if "policy" in section else "type")
    before = notes.said.get("learning_rate")
    peak = section.number(key)
    if peak is None:
        section.drop(key, "the peak of the one-cycle schedule is not one number")
    else:
        section.say("learning_rate", peak, key)
        if before and before.value != peak and "default" not in before.where:
            notes.changes_nothing.append(f"{before.where}: the one-cycle schedule sets the rate from {section.where(key)}")
    if any(chosen.get("lr_mult", 1) != 1 for chosen in notes.value("custom_keys", {}).values()):
        section.idle(
            key, "one-cycle sets the rates of all parameters from this, so that lr_mult of custom_keys changes nothing there"
        )
    defaults = {"pct_start": 0.3, "anneal_strategy": "cos", "div_factor": 25, "final_div_factor": 1e4, "three_phase": False}
    for name, default in defaults.items():
        if (value := section.take(name, default)) != default:
            section.drop(name, f"occlab's one-cycle has {name} {default}, not {shown(value)}")
    total, steps = section.number("total_steps"), notes.value("steps")
    if total and steps and total != steps:
        section.drop("total_steps", f"the cycle goes over {total} steps of {steps}; occlab's goes over all")


def _read_length(section: Section) -> None:
    if "max_iters" in section:
        _say_number(section, "steps", "max_iters")
    elif "max_epochs" in section:
        _drop_epochs(section, "max_epochs")


def _drop_epochs(section: Section, key: str) -> None:
    epochs = section.take(key)
    section.drop(key, f"{shown(epochs)} epochs; occlab counts in steps, and the file does not say how many these are: set them")


def _say_number(section: Section, name: str, key: str) -> None:
    value = section.number(key)
    if value is not None:
        section.say(name, value, key)
