"""Scalars of a TensorBoard event file, read without TensorBoard.

The file is a row of TFRecords: length (uint64), its masked CRC-32C, the payload, its masked CRC-32C, all little-endian.
A payload is a protobuf ``Event``: 1 wall time, 2 step, 5 summary; a summary holds values: 1 tag, 2 simple value (PyTorch,
tensorboardX, mmcv), 8 tensor (TensorFlow 2, Keras). Sources: tensorflow/core/util/event.proto, framework/summary.proto,
framework/tensor.proto, tsl/lib/io/record_writer.h.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...errors import OcclabError
from .lines import LARGEST_STEP, clean

LARGEST_RECORD = 1_000_000

_ITEM = {1: ("<f", 4), 2: ("<d", 8), 3: ("<i", 4), 9: ("<q", 8), 19: ("<e", 2)}
"""Type of a tensor -> how its one element lies in ``tensor_content``: float, double, int32, int64, half."""
_PACKED = {5: ("<f", 4), 6: ("<d", 8)}
"""Field of a tensor -> how its one element lies there: ``float_val``, ``double_val``."""


def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _table()


def masked_crc(data: bytes) -> int:
    """CRC-32C (Castagnoli), rotated and offset as TFRecords have it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def is_event_file(start: bytes) -> bool:
    """Whether a file begins as a TFRecord does."""
    return len(start) >= 12 and masked_crc(start[:8]) == struct.unpack_from("<I", start, 8)[0]


@dataclass
class Damage:
    """What could not be read of a file."""

    records: int = 0
    """Records whose checksum or content is wrong."""
    large: int = 0
    """Records of over 1 MB; pictures, as a rule."""
    lost_at: int | None = None
    """The byte from which on nothing could be read, because the length of a record is wrong."""


def read_scalars(path: Path, damage: Damage) -> Iterator[tuple[float, int, str, float]]:
    """Wall time, step, tag and value of every scalar, in the order of the file. A last record cut short is left out.

    Raises:
        OcclabError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            while len(start := file.read(12)) == 12:
                length, crc = struct.unpack("<QI", start)
                if masked_crc(start[:8]) != crc:
                    damage.lost_at = file.tell() - 12
                    return
                if file.tell() + length + 4 > size:  # still being written, or cut short
                    return
                if length > LARGEST_RECORD:
                    damage.large += 1
                    file.seek(length + 4, 1)
                    continue
                payload = file.read(length)
                crc = struct.unpack("<I", file.read(4))[0]
                try:
                    found = _event(payload)
                except (ValueError, struct.error):
                    damage.records += 1
                    continue
                if not found:
                    continue  # a picture or a graph: its checksum would cost more than it tells
                if masked_crc(payload) != crc:
                    damage.records += 1
                    continue
                yield from found
    except (OSError, struct.error) as error:
        raise OcclabError(f"{clean(path)}: cannot be read ({error})") from error


def _event(payload: bytes) -> list[tuple[float, int, str, float]]:
    wall, step, summaries = 0.0, 0, []
    for field, value in _fields(payload):
        if field == 1:
            wall = struct.unpack("<d", _bytes(value, 8))[0]
        elif field == 2 and isinstance(value, int):
            step = value
        elif field == 5:
            summaries.append(_bytes(value))
    if step >= LARGEST_STEP:  # negative ones too: they are written as 2**64 - n
        return []
    found = []
    for summary in summaries:
        for field, value in _fields(summary):
            scalar = _value(_bytes(value)) if field == 1 else None
            if scalar is not None:
                found.append((wall, step, *scalar))
    return found


def _value(message: bytes) -> tuple[str, float] | None:
    tag, scalar = "", None
    for field, value in _fields(message):
        if field == 1:
            tag = _bytes(value).decode("utf-8", "replace")
        elif field == 2:
            scalar = struct.unpack("<f", _bytes(value, 4))[0]
        elif field == 8:
            scalar = _tensor(_bytes(value))
    return (tag, scalar) if tag and scalar is not None and not tag.startswith("_hparams_") else None


def _tensor(message: bytes) -> float | None:
    """The one number of a tensor; None where it holds more, or something else."""
    kind, content, number = 0, b"", None
    for field, value in _fields(message):
        if field == 1 and isinstance(value, int):
            kind = value
        elif field == 4:
            content = _bytes(value)
        elif field in _PACKED:  # one element, packed or not, is the same bytes
            form, size = _PACKED[field]
            if number is not None or len(_bytes(value)) != size:
                return None
            number = struct.unpack(form, _bytes(value))[0]
        elif field in (7, 10):  # int_val, int64_val
            value = value if isinstance(value, int) else _varint(_bytes(value), 0)[0]
            number = float(value - (1 << 64) if value >> 63 else value)
    if number is None and kind in _ITEM and len(content) == _ITEM[kind][1]:
        number = float(struct.unpack(_ITEM[kind][0], content)[0])
    return number


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and content of each field of a protobuf message: an int where it is a varint, bytes elsewhere."""
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if wire == 2:
            size, at = _varint(message, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"unknown wire type {wire}")
        if at + size > end:
            raise ValueError("a field is longer than its message")
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(10):
        if at + i >= len(message):
            break
        byte = message[at + i]
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at + i + 1
    raise ValueError("a number without an end")


def _bytes(value: int | bytes, size: int | None = None) -> bytes:
    if isinstance(value, int) or (size is not None and len(value) != size):
        raise ValueError("a field of another type than expected")
    return value
