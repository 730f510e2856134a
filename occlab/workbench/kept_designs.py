"""Designs that are kept, to be listed and gone on with.

NAME.yaml         the design, as ``occlab ablate`` reads it
NAME.data.json    the frames that it was begun with: where they come from, and their fingerprints
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from ..ablation import Design, read_design
from ..ablation.design_file import EXPONENT, _design
from ..errors import OcclabError
from ..files import write_atomically
from ..frames import Frame
from ..settings import profile
from ..training import TrainConfig, preset


def document(config: TrainConfig, seeds: Sequence[int], comparison: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a design file whose base is a configuration.

    Args:
        comparison: the rest of the file: ``design`` and ``factors``, or ``arms``; and maybe ``for_each``.
    """
    size = profile()
    # The precision is always said: without it a sweep takes the fastest that the machine has.
    base = _differences(config, preset("as-it-stood", size)) | {"precision": config.precision}
    values = {"preset": "as-it-stood", "profile": size.name, "base": base, "seeds": [*seeds], **comparison}
    return json.loads(json.dumps(values))  # lists for tuples, as they will be read


def as_design(values: Mapping[str, Any]) -> Design:
    """The design that a file of these values holds, every configuration in it checked.

    Raises:
        OcclabError: as :func:`occlab.ablation.read_design` does.
    """
    return _design(dict(values))


def keep(values: Mapping[str, Any], path: Path) -> None:
    """Write a design, so that ``read_design`` reads the same one.

    Raises:
        OcclabError: another design of that name is there, or the values are no design.
    """
    design = as_design(values)
    if path.exists():
        if read_design(path) != design:
            raise OcclabError(f"another design named {path.stem!r} is kept already; give this one another name")
        return
    write_atomically(path, lambda partial: partial.write_text(as_text(values), encoding="utf-8"))


def as_text(values: Mapping[str, Any]) -> str:
    """The text of a design's file."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, default_flow_style=None, allow_unicode=True, width=120)


def kept(folder: Path) -> list[Path]:
    """The designs in a folder, the latest first."""
    return sorted(folder.glob("*.yaml"), key=lambda path: path.stat().st_mtime, reverse=True)


def _differences(config: Any, start: Any) -> dict[str, Any]:
    """Settings that differ, by dotted name."""
    found = {}
    for name, value, before in ((f.name, getattr(config, f.name), getattr(start, f.name)) for f in fields(config)):
        if is_dataclass(value):
            found |= {f"{name}.{inner}": v for inner, v in _differences(value, before).items()}
        elif value != before and name != "seed":
            found[name] = value
    return found


class _Dumper(yaml.SafeDumper):
    """Puts quotes around a text that would be read as a number, such as 1e-4; and writes no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENT, list("-+.0123456789"))


def begin_with(path: Path, frames: Sequence[Frame], held_out: Sequence[Frame], source: str) -> None:
    """Note the frames that a design is begun with; refuse others than those.

    Raises:
        OcclabError: it was begun with others, or the note is damaged.
    """
    note = path.with_suffix(".data.json")
    prints = {"frames": [f.fingerprint for f in frames], "held_out": [f.fingerprint for f in held_out]}
    if not note.exists():
        text = json.dumps({"source": source, **prints}, indent=1) + "\n"
        write_atomically(note, lambda partial: partial.write_text(text, encoding="utf-8"))
        return
    try:
        before = json.loads(note.read_text(encoding="utf-8"))
        same, where = {name: before[name] for name in prints} == prints, str(before["source"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OcclabError(f"{note}: expected the source and the fingerprints of frames as JSON ({error})") from error
    if not same:
        raise OcclabError(
            f"the design {path.stem!r} was begun with other frames ({where or 'of an unknown source'}); "
            "choose those under Set up, or give the design another name"
        )
