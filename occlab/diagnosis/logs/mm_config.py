"""What a configuration of mmcv 1.x or mmengine says of the training. It is Python, parsed and never run.

Only assignments at the top level are looked at, and of them literals, ``dict(...)``, names assigned before, and the four
sums of numbers; what else stands there is unknown.
"""

import ast
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .lines import clean, number, whole
from .log import LogSettings

LONGEST = 200_000
_ASSIGNMENT = re.compile(r"^(?=[A-Za-z_]\w{0,99} {0,4}=)", re.MULTILINE)
_FILE = re.compile(r"^/?[\w./-]{1,400}\.py[ \t]{0,8}$", re.MULTILINE)  # mmcv puts a base's path before its text
_UNKNOWN = object()


@dataclass(frozen=True)
class MmConfig:
    """A configuration as far as it was understood."""

    settings: LogSettings
    window: int | None = None
    """mmengine's ``log_processor.window_size``."""
    epochs: int = 0
    """Planned."""
    notes: tuple[str, ...] = ()


def read_mm_config(text: str) -> MmConfig:
    """Settings from a configuration's text."""
    text = text[:LONGEST].encode("utf-8", "replace").decode("utf-8")  # JSON may hold half a surrogate pair
    values, failed = _assignments(_FILE.sub("", text))
    wrapper = _dict(values, "optim_wrapper")
    optimizer = _dict(values, "optimizer") or _dict(wrapper, "optimizer")
    clip = _dict(_dict(values, "optimizer_config"), "grad_clip") or _dict(wrapper, "clip_grad")
    data = _dict(values, "data").get("samples_per_gpu", _dict(values, "train_dataloader").get("batch_size"))
    runner = _dict(values, "runner") | _dict(values, "train_cfg")
    seed = values.get("seed", _dict(values, "randomness").get("seed"))
    epochs = whole(runner.get("max_epochs", values.get("total_epochs"))) or 0
    kind = optimizer.get("type")
    settings = LogSettings(
        optimizer=clean(kind) if isinstance(kind, str) else None,
        learning_rate=number(optimizer.get("lr")),
        weight_decay=number(optimizer.get("weight_decay")),
        clip_norm=number(clip.get("max_norm")),
        batch_size=whole(data),
        seed=whole(seed),
        loss=", ".join(_losses(values.get("model"))) or None,
        total_steps=whole(runner.get("max_iters", values.get("total_iters"))),
        text=text,
    )
    notes = []
    if text.strip() and not values:
        notes.append("The configuration in the log could not be parsed; nothing is taken from it.")
    elif failed:
        notes.append(f"Of the configuration, {', '.join(clean(name) for name in failed[:5])} could not be parsed.")
    window = whole(_dict(values, "log_processor").get("window_size"))
    return MmConfig(settings, window, min(epochs, 1 << 22), tuple(notes))


def _assignments(text: str) -> tuple[dict[str, Any], list[str]]:
    """Top-level names and values, and the names whose statement is no Python. Each statement is parsed by itself, so that a
    text that is cut off says what it has said before."""
    values: dict[str, Any] = {}
    failed: list[str] = []
    for part in _ASSIGNMENT.split(text):
        name = part.partition("=")[0].strip()
        if not name.isidentifier():
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of odd escapes in somebody's strings
                statements = ast.parse(part).body
            for statement in statements:
                if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                    values[statement.targets[0].id] = _evaluate(statement.value, values)
        except (SyntaxError, ValueError, RecursionError, MemoryError):  # MemoryError: nested too deep for the parser
            failed.append(name)
    return {name: value for name, value in values.items() if value is not _UNKNOWN}, failed


def _evaluate(node: ast.expr, names: dict[str, Any]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return names.get(name, _UNKNOWN)
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_evaluate(item, names) for item in items]
        case ast.Dict(keys=keys, values=items):
            pairs = zip(keys, items, strict=True)
            return {k.value: _evaluate(v, names) for k, v in pairs if isinstance(k, ast.Constant)}
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords):
            return {k.arg: _evaluate(k.value, names) for k in keywords if k.arg is not None}
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            value = number(_evaluate(operand, names))
            return _UNKNOWN if value is None else -value
        case ast.BinOp(left=left, op=op, right=right):
            return _sum(op, number(_evaluate(left, names)), number(_evaluate(right, names)))
    return _UNKNOWN


def _sum(op: ast.operator, left: float | None, right: float | None) -> Any:
    if left is None or right is None:
        return _UNKNOWN
    match op:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.Div():
            return left / right if right else _UNKNOWN
    return _UNKNOWN


def _dict(values: dict[str, Any], name: str) -> dict[str, Any]:
    value = values.get(name)
    return value if isinstance(value, dict) else {}


def _losses(model: Any) -> list[str]:
    """Types of the losses in a model's configuration, each once, in their order."""
    found: dict[str, None] = {}
    for node in _walk(model):
        kind = node.get("type")
        if isinstance(kind, str) and "Loss" in kind:
            found[clean(kind)] = None
    return list(found)[:10]


def _walk(value: Any) -> Iterator[dict[Any, Any]]:
    waiting, seen = [value], 0
    while waiting and seen < 10_000:  # names assigned before can be nested into a tree of any size
        value = waiting.pop(0)
        seen += 1
        if isinstance(value, dict):
            yield value
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
