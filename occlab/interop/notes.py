"""Where each setting was said, and what was not: kept while a configuration is read."""

from dataclasses import dataclass, field
from typing import Any

from .python_file import WHOLE, NotUnderstood, PythonFile, dotted, shown


@dataclass(frozen=True)
class Said:
    """One setting that a file gave."""

    value: Any
    where: str
    """Such as ``optimizer.lr (line 12)``."""


@dataclass
class Notes:
    """What has been read so far. Every sentence names the place in the file."""

    file: PythonFile
    said: dict[str, Said] = field(default_factory=dict)
    not_carried: list[str] = field(default_factory=list)
    changes_nothing: list[str] = field(default_factory=list)

    def where(self, path: tuple[str, ...]) -> str:
        line = self.file.line(path)
        return dotted(path) + (f" (line {line})" if line else "")

    def value(self, name: str, default: Any = None) -> Any:
        return self.said[name].value if name in self.said else default


class Section:
    """One ``dict(...)`` of a file. What nobody took is reported by :meth:`finish`, so that nothing is dropped silently."""

    def __init__(self, values: dict[Any, Any], path: tuple[str, ...], notes: Notes):
        self.values, self.path, self.notes = values, path, notes
        self.taken: set[Any] = {"_delete_", "_scope_"}  # about merging with other files, not settings

    def __contains__(self, key: str) -> bool:
        return key in self.values and not isinstance(self.values[key], NotUnderstood)

    def take(self, key: str, default: Any = None) -> Any:
        """A value, or the default where there is none, or none that is understood."""
        self.taken.add(key)
        return self.values[key] if key in self else default

    def number(self, key: str, default: float | None = None) -> float | None:
        value = self.take(key)
        if type(value) in (int, float) and abs(value) < WHOLE:
            return value
        if value is not None:
            self.drop(key, f"expected a finite number, got {shown(value)}")
        return default

    def name(self, key: str = "type") -> str:
        """The last part of a class's name; empty where there is none."""
        value = self.take(key)
        return value.rpartition(".")[2] if isinstance(value, str) else ""

    def section(self, key: str) -> "Section | None":
        value = self.take(key)
        if isinstance(value, dict):
            return Section(value, (*self.path, shown(key)), self.notes)
        if value is not None:
            self.drop(key, f"expected dict(...), got {shown(value)}")
        return None

    def where(self, key: str | None = None) -> str:
        return self.notes.where(self.path if key is None else (*self.path, shown(key)))

    def say(self, name: str, value: Any, key: str | None = None, where: str | None = None) -> None:
        """The file gives TrainConfig's field ``name`` this value."""
        self.notes.said[name] = Said(value, where or self.where(key))

    def drop(self, key: str | None, why: str) -> None:
        """The file says something that occlab has no setting for."""
        self.notes.not_carried.append(f"{self.where(key)}: {why}")

    def idle(self, key: str | None, why: str) -> None:
        """The file says something that changes nothing."""
        self.notes.changes_nothing.append(f"{self.where(key)}: {why}")

    def finish(self) -> None:
        rest = [key for key, value in self.values.items() if key not in self.taken and not isinstance(value, NotUnderstood)]
        if rest:
            more = f" and {len(rest) - 30} more" if len(rest) > 30 else ""
            self.drop(None, f"not read, because occlab has no such settings: {', '.join(map(_name, rest[:30]))}{more}")


def _name(key: Any) -> str:
    return shown(str(key))
