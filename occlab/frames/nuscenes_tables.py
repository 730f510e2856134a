"""nuScenes v1.0: the 13 tables of a data set, checked and indexed once.

Layout: ``ROOT/v1.0-mini/`` (``-trainval``, ``-test``) holds ``category.json`` to ``map.json``, each a JSON list of records
with a ``token``; ``sample_data`` names the sensors' files relative to ``ROOT``. Format: Caesar et al., "nuScenes", CVPR
2020, and schema_nuscenes.md of nuscenes-devkit. The data is licensed for non-commercial use only.
"""

import json
import re
import reprlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import OcclabError

Record = dict[str, Any]
_LEAVES = re.compile(r"^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)|\0")
_FARTHEST = 1e8
"""Metres, pixels. Larger numbers are damage: nuScenes' maps end within a few kilometres, UTM coordinates at 10^7 m."""


def _vector(value: Any, n: int) -> bool:
    return isinstance(value, list) and len(value) == n and all(type(v) in (int, float) and abs(v) < _FARTHEST for v in value)


def _quaternion(value: Any) -> bool:
    return _vector(value, 4) and abs(sum(v * v for v in value) - 1) < 1e-3


def _intrinsics(value: Any) -> bool:
    if not isinstance(value, list) or not value:
        return value == []
    return len(value) == 3 and all(_vector(row, 3) for row in value) and value[0][0] > 0 and value[1][1] > 0


def _text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) < 1000 and value.isprintable()


def _whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


Kind = tuple[str, Callable[[Any], bool]]
_TEXT: Kind = ("a printable text", _text)
_POSITION: Kind = ("3 finite numbers, metres", lambda v: _vector(v, 3))
_ROTATION: Kind = ("a quaternion w x y z of norm 1", _quaternion)
_SIZE: Kind = ("3 positive numbers: width, length, height", lambda v: _vector(v, 3) and min(v) > 0)
_INTRINSICS: Kind = ("3 x 3 numbers with focal lengths above 0, or [] where the sensor is no camera", _intrinsics)
_WHOLE: Kind = ("a whole number, 0 or more", _whole)
_FLAG: Kind = ("true or false", lambda v: isinstance(v, bool))
_FILE: Kind = ("a path inside the data set", lambda v: _text(v) and not _LEAVES.search(v))

FIELDS: dict[str, dict[str, Kind]] = {
    "category": {"name": _TEXT},
    "attribute": {},
    "visibility": {},
    "instance": {},
    "sensor": {"channel": _TEXT},
    "calibrated_sensor": {"translation": _POSITION, "rotation": _ROTATION, "camera_intrinsic": _INTRINSICS},
    "ego_pose": {"translation": _POSITION, "rotation": _ROTATION},
    "log": {"vehicle": _TEXT, "date_captured": _TEXT},
    "scene": {"name": _TEXT},
    "sample": {"timestamp": _WHOLE},
    "sample_data": {"timestamp": _WHOLE, "filename": _FILE, "is_key_frame": _FLAG},
    "sample_annotation": {"translation": _POSITION, "size": _SIZE, "rotation": _ROTATION, "num_lidar_pts": _WHOLE},
    "map": {},
}
"""What is read of each table, beside the token and the links."""
LINKS: dict[str, dict[str, str]] = {
    "instance": {"category_token": "category"},
    "calibrated_sensor": {"sensor_token": "sensor"},
    "scene": {"log_token": "log", "first_sample_token": "sample"},
    "sample": {"scene_token": "scene", "next": "sample"},
    "sample_data": {
        "sample_token": "sample",
        "ego_pose_token": "ego_pose",
        "calibrated_sensor_token": "calibrated_sensor",
        "prev": "sample_data",
    },
    "sample_annotation": {"sample_token": "sample", "instance_token": "instance"},
}
"""Field -> table whose token it holds; ``prev`` and ``next`` may be empty."""
_MAY_BE_EMPTY = {"attribute", "visibility", "map", "category", "instance", "sample_annotation"}  # v1.0-test has no boxes


@dataclass(frozen=True)
class NuscenesTables:
    """The tables by token, and what belongs to each sample. Made by :func:`read_tables` or :func:`index_tables`."""

    root: Path
    """The folder that file names start from."""
    version: str
    records: dict[str, dict[str, Record]]
    """Table -> token -> record."""
    key_frames: dict[str, dict[str, Record]]
    """Sample token -> channel, such as ``CAM_FRONT`` -> its record of sample_data."""
    annotations: dict[str, list[Record]]
    """Sample token -> its records of sample_annotation."""

    def get(self, table: str, token: str) -> Record:
        try:
            return self.records[table][token]
        except KeyError as error:
            raise OcclabError(f"{self.file(table)}: expected a record with the token {token!r}, found none") from error

    def file(self, table: str) -> Path:
        return self.root / self.version / f"{table}.json"

    def channel(self, sample_data: Record) -> str:
        calibration = self.records["calibrated_sensor"][sample_data["calibrated_sensor_token"]]
        return self.records["sensor"][calibration["sensor_token"]]["channel"]

    def samples(self, scenes: Sequence[str] | None = None) -> Iterator[str]:
        """Tokens of the samples, scene by scene, in the order of time.

        Args:
            scenes: names, such as ``scene-0061``, or tokens; all scenes by default.

        Raises:
            OcclabError: there is no such scene, or its samples do not follow each other in time.
        """
        named = {record["name"]: token for token, record in self.records["scene"].items()}
        for name in self.records["scene"] if scenes is None else scenes:
            token = named.get(name, name)
            if token not in self.records["scene"]:
                raise OcclabError(f"{self.file('scene')}: no scene {name!r}; expected one of {reprlib.repr(sorted(named))}")
            following, last = self.records["scene"][token]["first_sample_token"], -1
            while following:
                sample = self.records["sample"][following]
                if sample["scene_token"] != token or sample["timestamp"] <= last:  # a circle would never end
                    raise OcclabError(
                        f"{self.file('sample')}: record {following}: expected a sample of scene {token} after "
                        f"timestamp {last}, got one of scene {sample['scene_token']} at {sample['timestamp']}"
                    )
                yield following
                following, last = sample["next"], sample["timestamp"]


def find_tables(path: str | Path, version: str | None = None) -> list[Path]:
    """The table folders ``v1.0-*`` at a path: those in it, itself, or those in its ``nuscenes``; empty if there are none.

    Args:
        version: only this one, e.g. ``v1.0-mini``.
    """
    path = Path(path).absolute()
    for candidates in (path.glob("*"), [path], (path / "nuscenes").glob("*")):
        if found := sorted(folder for folder in candidates if folder.match(version or "v1.0-*") and folder.is_dir()):
            return found
    return []


def read_tables(path: str | Path, version: str | None = None) -> NuscenesTables:
    """Read and check the 13 tables of a nuScenes v1.0 data set.

    Args:
        path: the data set's root, the folder that holds it as ``nuscenes``, or the table folder itself.
        version: e.g. ``v1.0-mini``; needed only where there are several.

    Raises:
        OcclabError: no tables or several versions; a table is missing, cut off or not a list of records; a record lacks a
            field, holds what is no quaternion, position or path inside the data set, or names a record that is not there.
    """
    found = find_tables(path, version)
    if len(found) != 1:
        got = f"{', '.join(folder.name for folder in found)}; say which by version" if found else "none"
        raise OcclabError(f"{path}: expected a nuScenes data set with one table folder {version or 'v1.0-*'}, found {got}")
    (folder,) = found
    tables = {table: _read(folder / f"{table}.json") for table in FIELDS}
    return index_tables(folder.parent, folder.name, tables)


def _read(path: Path) -> Any:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise OcclabError(
            f"{path}: expected a table of nuScenes v1.0, which has 13, but it cannot be read ({error.strerror})"
        ) from error
    if not content.strip():
        raise OcclabError(f"{path}: expected a JSON list of records, but the file is empty")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise OcclabError(f"{path}: expected a JSON list of records, but it is cut off or not JSON ({error})") from error


def index_tables(root: Path, version: str, tables: dict[str, Any]) -> NuscenesTables:
    """Check tables that are read already, and index them.

    Args:
        tables: table -> list of records, as the JSON files hold them.

    Raises:
        OcclabError: as :func:`read_tables`.
    """
    where = {table: root / version / f"{table}.json" for table in FIELDS}
    records = {table: _by_token(where[table], table, tables.get(table)) for table in FIELDS}
    for table, links in LINKS.items():
        for field, other in links.items():
            _check_link(where[table], records[table], field, records[other], f"{other}.json")

    indexed = NuscenesTables(Path(root), version, records, {token: {} for token in records["sample"]}, {})
    for record in records["sample_data"].values():
        if record["is_key_frame"]:
            channels, channel = indexed.key_frames[record["sample_token"]], indexed.channel(record)
            if channel in channels:
                raise OcclabError(
                    f"{where['sample_data']}: record {record['token']}: expected one key frame a channel and sample, got a "
                    f"second {channel} of sample {record['sample_token']}"
                )
            channels[channel] = record
    for record in records["sample_annotation"].values():
        indexed.annotations.setdefault(record["sample_token"], []).append(record)
    return indexed


def _by_token(path: Path, table: str, rows: Any) -> dict[str, Record]:
    """Token -> record, each with the fields that are read of this table."""
    if not isinstance(rows, list):
        raise OcclabError(f"{path}: expected a list of records, got {type(rows).__name__}")
    if not rows and table not in _MAY_BE_EMPTY:
        raise OcclabError(f"{path}: expected at least one record, but the list is empty")
    records: dict[str, Record] = {}
    for i, row in enumerate(rows):
        if not isinstance(row, dict):
            raise OcclabError(f"{path}: record {i}: expected an object, got {reprlib.repr(row)}")
        token = row.get("token")
        if not _text(token) or token in records:
            fault = "given twice" if isinstance(token, str) and token in records else "missing or no printable text"
            raise OcclabError(f"{path}: record {i}: expected a token of its own, but it is {fault}: {reprlib.repr(token)}")
        for field, (expected, fits) in FIELDS[table].items():
            if not fits(row.get(field)):
                got = reprlib.repr(row[field]) if field in row else "no such field"
                raise OcclabError(f"{path}: record {token}: {field}: expected {expected}, got {got}")
        records[token] = row
    return records


def _check_link(path: Path, records: dict[str, Record], field: str, others: dict[str, Record], other: str) -> None:
    optional = field in ("prev", "next")
    for token, record in records.items():
        link = record.get(field)
        if not (isinstance(link, str) and (link in others or (optional and link == ""))):
            raise OcclabError(f"{path}: record {token}: {field}: expected a token of {other}, got {reprlib.repr(link)}")
