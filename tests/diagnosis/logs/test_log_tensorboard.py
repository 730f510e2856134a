"""Event files built byte by byte, with a checksum of its own, and what is read of them."""

import struct

import pytest

from occlab.diagnosis.logs import read_log
from occlab.diagnosis.logs.event_file import masked_crc
from occlab.errors import OcclabError


def slow_crc32c(data: bytes) -> int:
    """One bit at a time, as the polynomial is defined."""
    crc = 0xFFFFFFFF
    for byte in data:
        for bit in range(8):
            odd = (crc ^ (byte >> bit)) & 1
            crc >>= 1
            if odd:
                crc ^= 0x82F63B78
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    crc = slow_crc32c(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % 2**32)


def varint(value: int) -> bytes:
    value %= 2**64
    out = b""
    while value > 127:
        out += bytes([value % 128 + 128])
        value //= 128
    return out + bytes([value])


def message(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def simple(value: float) -> bytes:
    return varint(2 << 3 | 5) + struct.pack("<f", value)


def tensor(kind: int, body: bytes) -> bytes:
    return message(8, varint(1 << 3) + varint(kind) + message(2, b"") + body)


def record(payload: bytes) -> bytes:
    length = struct.pack("<Q", len(payload))
    return length + masked(length) + payload + masked(payload)


def event(step: int, wall: float, values: dict[str, bytes]) -> bytes:
    summary = b"".join(message(1, message(1, tag.encode()) + value) for tag, value in values.items())
    return record(b"\x09" + struct.pack("<d", wall) + b"\x10" + varint(step) + message(5, summary))


START = record(b"\x09" + struct.pack("<d", 1e9) + message(3, b"brain.Event:2"))


def write(path, *records, start=START):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(start + b"".join(records))
    return path


def losses(values: dict[int, float], wall=1e9, tag="train/loss"):
    return [event(step, wall + step, {tag: simple(value)}) for step, value in values.items()]


def test_the_checksum_of_the_standard():
    """RFC 3720, B.4: 32 zeros, 32 ones, and the digits 1 to 9."""
    for data, crc in ((bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (b"123456789", 0xE3069283)):
        assert slow_crc32c(data) == crc
        assert struct.pack("<I", masked_crc(data)) == masked(data)


def test_simple_values(tmp_path):
    values = {"train/loss": simple(0.5), "lr": simple(0.25), "train/grad_norm": simple(float("nan")), "val/mIoU": simple(0.125)}
    log = read_log(write(tmp_path / "events.out.tfevents.1.host", event(7, 1e9, values), event(300, 1e9 + 1, values)))
    assert (log.format, log.rows, log.validation_rows, log.notes[-2:]) == (
        *("TensorBoard events", 2, 2),
        ("loss is the log's train/loss.", "gradient_norm is the log's train/grad_norm."),
    )
    assert {name: curve.step.tolist() for name, curve in log.training.items()} == {
        name: [7, 300] for name in ("loss", "learning_rate", "gradient_norm")
    }
    assert log.validation["val/mIoU"].value.tolist() == [0.125, 0.125]


@pytest.mark.parametrize(
    "value",
    [
        tensor(1, message(4, struct.pack("<f", 0.375))),
        tensor(1, message(5, struct.pack("<f", 0.375))),
        tensor(1, varint(5 << 3 | 5) + struct.pack("<f", 0.375)),
        tensor(2, message(4, struct.pack("<d", 0.375))),
        tensor(2, message(6, struct.pack("<d", 0.375))),
        tensor(2, varint(6 << 3 | 1) + struct.pack("<d", 0.375)),
        tensor(19, message(4, struct.pack("<e", 0.375))),
    ],
    ids=["float bytes", "float packed", "float", "double bytes", "double packed", "double", "half bytes"],
)
def test_scalars_as_tensors(tmp_path, value):
    log = read_log(write(tmp_path / "events.out.tfevents.1.host.v2", event(3, 1e9, {"epoch_loss": value})))
    assert log.training["loss"].value.tolist() == [0.375]


def test_integers_as_tensors(tmp_path):
    values = {"loss": tensor(9, varint(10 << 3) + varint(-4)), "n": tensor(3, message(4, struct.pack("<i", -7)))}
    log = read_log(write(tmp_path / "tfevents", event(3, 1e9, values)))
    assert (log.training["loss"].value[0], log.training["n"].value[0]) == (-4, -7)


def test_tensors_of_more_than_one_number_are_no_scalars(tmp_path):
    values = {"loss": simple(1), "weights": tensor(1, message(4, bytes(8))), "text": tensor(7, message(8, b"hello"))}
    assert set(read_log(write(tmp_path / "tfevents", event(3, 1e9, values))).training) == {"loss"}


def test_a_last_record_cut_short_is_left_out(tmp_path):
    whole = b"".join(losses({1: 0.5, 2: 0.25, 3: 0.125}))
    for cut in range(1, len(whole) // 3):
        log = read_log(write(tmp_path / "tfevents", whole[:-cut]))
        assert log.training["loss"].value.tolist() == [0.5, 0.25]


def test_a_broken_record_is_skipped_and_counted(tmp_path):
    good, bad, last = losses({1: 0.5, 2: 0.25, 3: 0.125})
    bad = bytearray(bad)
    bad[-6] ^= 1  # in the payload
    log = read_log(write(tmp_path / "tfevents", good, bytes(bad), last))
    assert log.training["loss"].step.tolist() == [1, 3]
    assert "1 broken records are left out." in log.notes


def test_behind_a_broken_length_nothing_is_read(tmp_path):
    first, bad, last = losses({1: 0.5, 2: 0.25, 3: 0.125})
    log = read_log(write(tmp_path / "tfevents", first, b"\xff" + bad[1:], last))
    assert log.training["loss"].step.tolist() == [1]
    assert any(f"byte {len(START + first)}" in note for note in log.notes)


def test_negative_steps_are_left_out(tmp_path):
    log = read_log(write(tmp_path / "tfevents", *losses({-1: 0.5, 2: 0.25})))
    assert log.training["loss"].step.tolist() == [2]


def test_a_resumed_run_in_two_files(tmp_path):
    write(tmp_path / "events.out.tfevents.1700000000.a", *losses({1: 1.0, 2: 0.9, 3: 0.8, 4: 0.7}))
    write(tmp_path / "events.out.tfevents.1700009999.a", *losses({3: 0.5, 4: 0.4, 5: 0.3}, wall=1e9 + 500))
    log = read_log(tmp_path)
    assert log.training["loss"].value.tolist() == [1.0, pytest.approx(0.9), 0.5, pytest.approx(0.4), pytest.approx(0.3)]
    assert log.restarts == (2,)
    assert log.path.name == "events.out.tfevents.1700009999.a"


def test_files_written_at_the_same_time_are_merged_by_step(tmp_path):
    write(tmp_path / "events.out.tfevents.1700000000.a", *losses({1: 1.0, 3: 3.0, 5: 5.0}))
    write(tmp_path / "events.out.tfevents.1700000001.b", *losses({2: 2.0, 3: 3.5, 4: 4.0}, wall=1e9 + 0.5))
    log = read_log(tmp_path)
    assert log.training["loss"].step.tolist() == [1, 2, 3, 4, 5]
    assert log.training["loss"].value.tolist() == [1, 2, 3.5, 4, 5]
    assert log.restarts == ()


def test_the_folders_of_keras_and_of_add_scalars(tmp_path):
    for names, tag in ((("train", "validation"), "epoch_loss"), (("Loss_train", "Loss_val"), "Loss")):
        folder = tmp_path / tag
        for name, value in zip(names, (0.5, 0.75), strict=True):
            write(folder / name / "events.out.tfevents.1700000000.a", *losses({1: value}, tag=tag))
        log = read_log(folder)
        assert log.training["loss"].value.tolist() == [0.5]
        assert log.validation[f"{names[1]}/{tag}"].value.tolist() == [0.75]


def test_runs_that_are_named_after_training_stay_apart(tmp_path):
    for number in (1, 2):
        write(tmp_path / f"train_{number}" / f"events.out.tfevents.170000000{number}.a", *losses({1: number}))
    log = read_log(tmp_path)
    assert log.training["loss"].value.tolist() == [2]
    assert "train_1" in log.notes[0]


def test_what_add_scalars_and_add_hparams_put_below_a_run_does_not_hide_it(tmp_path):
    name = "events.out.tfevents.17000000{}.a"
    write(tmp_path / name.format("00"), *losses({1: 0.5, 2: 0.25}, tag="loss"))
    write(tmp_path / "Rates" / "train" / name.format("01"), *losses({1: 4.0}, tag="Rates"))
    write(tmp_path / "1700000002.5505" / name.format("02"), *losses({1: 9.0}, tag="accuracy"))
    log = read_log(tmp_path)
    assert log.training["loss"].value.tolist() == [0.5, 0.25]
    assert log.training["train/Rates"].value.tolist() == [4]
    assert set(log.training) == {"loss", "train/Rates"}


def test_an_event_file_without_scalars_is_refused(tmp_path):
    with pytest.raises(OcclabError, match="expected scalars of a training"):
        read_log(write(tmp_path / "tfevents"))
