"""Python used as a configuration file, read without running it.

A configuration is a list of assignments. What can be known without running anything is understood: literals, ``dict(...)``,
lists and tuples, arithmetic on numbers, ``+`` of texts and lists, names bound earlier in the file, an element of one of
those. All else (calls, lambdas, comprehensions, f-strings, conditions, loops) is reported with its line, and what it
would have set is unknown. Bounds on size, depth and the number of values keep a hostile file cheap.
"""

import ast
import operator
import warnings
from typing import Any

from ..errors import OcclabError
from .python_file import (
    MOST_DEPTH,
    MOST_SENTENCES,
    MOST_TEXT,
    MOST_VALUES,
    UNKNOWN,
    WHOLE,
    NotUnderstood,
    PythonFile,
    Where,
    check_size,
    dotted,
    shown,
)


def parse(text: str, name: str) -> PythonFile:
    """What a configuration's text says.

    Args:
        name: the file, for the messages.

    Raises:
        OcclabError: not Python, or beyond the bounds.
    """
    check_size(len(text), name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an escape such as \d in a text
            tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        line = f" in line {error.lineno}" if getattr(error, "lineno", None) else ""
        problem = shown(error.msg if isinstance(error, SyntaxError) else "text that cannot be encoded")
        raise OcclabError(f"{name}: expected Python, found something else{line} ({problem})") from error
    except (MemoryError, RecursionError) as error:
        raise OcclabError(f"{name}: expected a configuration, found Python that is nested too deeply to be read") from error
    reader = _Reader(name)
    for statement in tree.body:
        reader.statement(statement)
    return reader.finished()


_WORDS = {
    ast.Call: "a call of a function",
    ast.Lambda: "a lambda",
    ast.JoinedStr: "an f-string",
    ast.ListComp: "a comprehension",
    ast.SetComp: "a comprehension",
    ast.DictComp: "a comprehension",
    ast.GeneratorExp: "a comprehension",
    ast.IfExp: "a condition",
    ast.Attribute: "an attribute",
    ast.Set: "a set, or a placeholder in braces",
    ast.Starred: "a starred value",
    ast.Expr: "a statement that is no assignment",
    ast.If: "an if",
    ast.For: "a loop",
    ast.While: "a loop",
    ast.FunctionDef: "a function",
    ast.ClassDef: "a class",
    ast.AugAssign: "an assignment that adds to a value",
    ast.Assign: "an assignment to a part of a value",
}

_ARITHMETIC = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


class _UnknownError(Exception):
    """Why an expression is not understood."""


class _Reader:
    def __init__(self, name: str):
        self.name = name
        self.file = PythonFile()
        self.weights: dict[str, int] = {}
        """Values behind a name: a name of a name of a name ... holds more of them than the file has characters."""
        self.spent = 0
        self.fresh: set[str] = set()
        """Names that nothing has used since they were set."""
        self.unreported = 0

    def finished(self) -> PythonFile:
        if self.unreported:
            self.file.not_understood.append(f"{self.unreported} more places of {self.name} are not understood")
        values = {name: value for name, value in self.file.values.items() if not name.startswith("__")}
        bases = values.pop("_base_", None)
        if bases is not None:
            listed = bases if isinstance(bases, list | tuple) else [bases]
            self.file.bases += [base for base in listed if isinstance(base, str)]
        self.file.values = values
        return self.file

    def statement(self, node: ast.stmt) -> None:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        if targets and node.value is not None and all(isinstance(target, ast.Name) for target in targets):
            for target in targets:
                self.bind(target.id, node)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            self.imported(node)
        elif isinstance(node, ast.With) and _reads_bases(node):
            self.read_base(node)
        elif not isinstance(node, ast.Pass) and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            self.report(node, (), _word(node))  # all but a text that explains
            for part in ast.walk(node):
                if isinstance(part, ast.Name) and (part.id in self.file.values or isinstance(part.ctx, ast.Store)):
                    self.file.values[part.id] = UNKNOWN  # it may be something else from here on

    def bind(self, name: str, node: ast.Assign | ast.AnnAssign) -> None:
        values, lines, before = self.file.values, self.file.lines, self.spent
        value = self.value(node.value, (name,), 0)
        if name in self.fresh and (name,) in lines:
            self.file.repeated.append(
                f"{shown(name)} (line {lines[name,]}) changes nothing: line {node.lineno} sets it again before it is used"
            )
        values[name], lines[name,], self.weights[name] = value, node.lineno, self.spent - before
        self.fresh.add(name)

    def imported(self, node: ast.Import | ast.ImportFrom) -> None:
        """An imported class is known by its name: ``type=AdamW`` is ``type='AdamW'``."""
        for alias in node.names:
            if alias.name == "*":
                self.report(node, (), "an import of everything")
            else:
                name = alias.asname or alias.name.partition(".")[0]
                self.file.values[name] = alias.name
                self.file.used.add(name)

    def read_base(self, node: ast.With) -> None:
        """mmengine's ``with read_base(): from .other import *``."""
        for inner in node.body:
            if isinstance(inner, ast.ImportFrom):
                self.file.bases.append("." * inner.level + (inner.module or ""))
            else:
                self.report(inner, (), _word(inner))

    def report(self, node: ast.AST, path: Where, why: str) -> NotUnderstood:
        for part in ast.walk(node):
            if isinstance(part, ast.Name):
                self.file.used.add(part.id)
                self.fresh.discard(part.id)
        what = f"line {node.lineno}" + (f", {dotted(path)}" if path else "")
        sentence = f"{what}: {why} is not understood, and was not run"
        if len(self.file.not_understood) >= MOST_SENTENCES:
            self.unreported += 1
        elif sentence not in self.file.not_understood[-1:]:
            self.file.not_understood.append(sentence)
        return UNKNOWN

    def value(self, node: ast.expr, path: Where, depth: int) -> Any:
        self.spend(1)
        try:
            if depth > MOST_DEPTH:
                raise _UnknownError(f"an expression of more than {MOST_DEPTH} levels")
            return self.understood(node, path, depth + 1)
        except _UnknownError as why:
            return self.report(node, path, str(why))

    def spend(self, values: int) -> None:
        self.spent += values
        if self.spent > MOST_VALUES:
            raise OcclabError(f"{self.name}: expected a configuration of at most {MOST_VALUES} values, got more")

    def understood(self, node: ast.expr, path: Where, depth: int) -> Any:
        if isinstance(node, ast.Constant):
            return _constant(node.value)
        if isinstance(node, ast.Name):
            return self.named(node.id)
        if isinstance(node, ast.List | ast.Tuple):
            items = [self.item(item, (*path, f"[{i}]"), depth) for i, item in enumerate(node.elts)]
            return items if isinstance(node, ast.List) else tuple(items)
        if isinstance(node, ast.Dict):
            return self.mapping(zip(node.keys, node.values, strict=True), path, depth)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
            return self.called_dict(node, path, depth)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            number = self.value(node.operand, path, depth)
            if type(number) not in (int, float):
                return self.silent_or_raise(number, "a sign before something that is no number")
            return -number if isinstance(node.op, ast.USub) else number
        if isinstance(node, ast.BinOp):
            return self.computed(node, path, depth)
        if isinstance(node, ast.Subscript):
            return self.element(node, path, depth)
        raise _UnknownError(_word(node))

    def item(self, node: ast.expr, path: Where, depth: int) -> Any:
        if not isinstance(node, ast.Constant):
            self.file.lines[path] = node.lineno
        return self.value(node, path, depth)

    def named(self, name: str) -> Any:
        if name not in self.file.values:
            raise _UnknownError(f"the name {shown(name)}, which nothing before it in this file sets,")
        self.file.used.add(name)
        self.fresh.discard(name)
        self.spend(self.weights.get(name, 0))
        return self.file.values[name]

    def called_dict(self, node: ast.Call, path: Where, depth: int) -> Any:
        pairs = [(None, argument) for argument in node.args]
        pairs += [
            (None if word.arg is None else ast.copy_location(ast.Constant(word.arg), word), word.value)
            for word in node.keywords
        ]
        return self.mapping(pairs, path, depth)

    def mapping(self, pairs: Any, path: Where, depth: int) -> dict[Any, Any]:
        """Keys and values of a dict; a key of None is ``**values``, or the dict that a dict is made of."""
        made: dict[Any, Any] = {}
        own: dict[Any, int] = {}
        for key_node, value_node in pairs:
            if key_node is None:
                other = self.value(value_node, path, depth)
                if isinstance(other, dict):
                    made |= other
                else:
                    self.silent_or_report(other, value_node, path, "a dict made of something that is no dict")
                continue
            key = self.value(key_node, path, depth)
            if isinstance(key, NotUnderstood | list | tuple | dict):
                self.silent_or_report(key, key_node, path, "a key that is no text")
                continue
            inner = (*path, shown(str(key)))
            if key in own:
                self.file.repeated.append(
                    f"{dotted(inner)} (line {own[key]}) changes nothing: line {value_node.lineno} gives it again"
                )
            own[key] = self.file.lines[inner] = value_node.lineno
            made[key] = self.value(value_node, inner, depth)
        return made

    def computed(self, node: ast.BinOp, path: Where, depth: int) -> Any:
        left, right = (self.value(side, path, depth) for side in (node.left, node.right))
        for side in (left, right):
            if isinstance(side, NotUnderstood):
                return UNKNOWN
        kinds = {type(left), type(right)}
        if isinstance(node.op, ast.Add) and len(kinds) == 1 and kinds <= {str, list, tuple}:
            if kinds == {str} and len(left) + len(right) > MOST_TEXT:
                raise _UnknownError(f"a text of more than {MOST_TEXT} characters")
            self.spend(len(left) + len(right) if kinds != {str} else 0)
            return left + right
        if type(node.op) not in _ARITHMETIC or not kinds <= {int, float}:
            raise _UnknownError("an operation on something that is no number")
        try:
            if isinstance(node.op, ast.Pow) and not abs(float(left) ** float(right)) < WHOLE:
                raise _UnknownError("a power this large")
            return _constant(_ARITHMETIC[type(node.op)](left, right))
        except (ArithmeticError, ValueError) as error:
            raise _UnknownError(f"arithmetic that fails ({error})") from error

    def element(self, node: ast.Subscript, path: Where, depth: int) -> Any:
        whole = self.value(node.value, path, depth)
        key = self.value(node.slice, path, depth)
        if isinstance(key, NotUnderstood):
            return UNKNOWN
        try:
            return whole[key] if isinstance(whole, dict | list | tuple) else self.silent_or_raise(whole, "an element of this")
        except (KeyError, IndexError, TypeError) as error:
            raise _UnknownError("an element that is not there") from error

    def silent_or_raise(self, value: Any, why: str) -> NotUnderstood:
        """What is unknown already was reported already."""
        if isinstance(value, NotUnderstood):
            return UNKNOWN
        raise _UnknownError(why)

    def silent_or_report(self, value: Any, node: ast.AST, path: Where, why: str) -> None:
        if not isinstance(value, NotUnderstood):
            self.report(node, path, why)


def _constant(value: Any) -> Any:
    if isinstance(value, int) and abs(value) >= WHOLE:
        raise _UnknownError("a whole number this large")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise _UnknownError(f"a value of type {type(value).__name__}")


def _reads_bases(node: ast.With) -> bool:
    """mmengine's ``with read_base():``."""
    calls = [item.context_expr for item in node.items]
    return [call.func.id for call in calls if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)] == ["read_base"]


def _word(node: ast.AST) -> str:
    return _WORDS.get(type(node), f"Python's {type(node).__name__}")
