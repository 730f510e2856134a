"""Copies of what somebody trains with, and what is given back after a look: gradients and random numbers."""

import copy
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def clone(value: Any) -> Any:
    """A copy of tensors, and of tuples, lists and dicts of them, without gradients."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {name: clone(v) for name, v in value.items()}
    if isinstance(value, tuple | list):
        return like(value, (clone(v) for v in value))
    return value


def like(value: tuple | list, items: Iterable[Any]) -> Any:
    """Items as a tuple, named tuple or list, whichever the value is."""
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)


def tensors(value: Any) -> Sequence[Tensor]:
    """Every tensor in inputs that may be a tensor, or tuples, lists and dicts of them."""
    if isinstance(value, Tensor):
        return [value]
    values = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
    return [t for v in values for t in tensors(v)]


def swapped(inputs: Any, old: Tensor, new: Tensor) -> Any:
    """Inputs with one tensor put in the place of another."""
    if inputs is old:
        return new
    if isinstance(inputs, dict):
        return {name: swapped(v, old, new) for name, v in inputs.items()}
    return like(inputs, (swapped(v, old, new) for v in inputs)) if isinstance(inputs, tuple | list) else inputs


def duplicate(*values: Any) -> Any:
    """Deep copies that belong together. Tensors that a forward pass left behind in a module, such as a normalised weight or
    kept features, which torch refuses to copy, come without their graph."""
    parts = [part for value in values if isinstance(value, nn.Module) for part in value.modules()]
    left = [t for part in parts for t in tensors(list(vars(part).values())) if not t.is_leaf]
    return copy.deepcopy(values, {id(t): t.detach().clone() for t in left})


def foreign(value: Tensor, *own: nn.Module | Tensor) -> list[Tensor]:
    """What a loss depends on that is not a parameter of these: the loss's own parameters, which are not copies."""
    known = {id(t) for o in own for t in (o.parameters() if isinstance(o, nn.Module) else [o])}
    found, seen, todo = [], set(), [value.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)  # of the nodes at which gradients are accumulated
        if isinstance(leaf, Tensor) and id(leaf) not in known:
            found.append(leaf)
        todo += [following for following, _ in node.next_functions]
    return found


@contextmanager
def gradients_kept(leaves: Sequence[Tensor]) -> Iterator[None]:
    """Gradients that these get inside are thrown away, those that they had given back."""
    before = [leaf.grad for leaf in leaves]
    for leaf in leaves:
        leaf.grad = None
    try:
        yield
    finally:
        for leaf, gradient in zip(leaves, before, strict=True):
            leaf.grad = gradient


@contextmanager
def random_numbers_kept() -> Iterator[None]:
    """Random numbers drawn inside, by torch, NumPy or Python, are given back."""
    state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            random.setstate(state)
            np.random.set_state(numpy_state)


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
