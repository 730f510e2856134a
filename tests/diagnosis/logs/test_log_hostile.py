"""Logs that were damaged, or made to do damage: always a log or one sentence, in bounded time and memory."""

import json
import struct
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from occlab.diagnosis.logs import TrainingLog, read_log
from occlab.diagnosis.logs.curves import Curves
from occlab.errors import OcclabError


def records(count):
    def crc(data):
        value = 0xFFFFFFFF
        for byte in data:
            value ^= byte
            for _ in range(8):
                value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        value ^= 0xFFFFFFFF
        return struct.pack("<I", ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF)

    for step in range(count):
        value = b"\x0a\x04loss\x15" + struct.pack("<f", 1 / (step + 1))
        summary = b"\x0a" + bytes([len(value)]) + value
        payload = b"\x09" + struct.pack("<d", step) + b"\x10" + bytes([step]) + b"\x2a" + bytes([len(summary)]) + summary
        length = struct.pack("<Q", len(payload))
        yield length + crc(length) + payload + crc(payload)


CONFIG = "optimizer = dict(type='AdamW', lr=1e-4)\noptimizer_config = dict(grad_clip=dict(max_norm=5))\n"
LOGS = {
    "mmcv text": "2024-01-01 10:00:00,123 - mmdet - INFO - Config:\n"
    + CONFIG
    + "".join(
        f"2024-01-01 10:00:00,123 - mmdet - INFO - Epoch [{e}][{i}/100]\tlr: 1.000e-04, eta: 1 day, 1:00:00, "
        f"loss: {9 / i:.4f}, grad_norm: nan\n"
        for e in (1, 2)
        for i in (50, 100)
    ),
    "mmcv json": json.dumps({"env_info": "x", "config": CONFIG, "seed": 0})
    + "\n"
    + "".join(
        json.dumps({"mode": "train", "epoch": e, "iter": i, "lr": 0.1, "loss": 1.0}) + "\n" for e in (1, 2) for i in (50, 100)
    )
    + '{"mode": "val", "epoch": 2, "iter": 9, "lr": 0.1, "mIoU": 0.5}\n',
    "mmengine scalars": "".join(
        f'{{"lr": 0.1, "loss": 1.5, "epoch": {e}, "step": {e * 10}}}\n{{"mIoU": 0.5, "step": {e}}}\n' for e in range(1, 6)
    ),
    "mmengine text": "".join(
        f"2022/08/21 02:58:41 - mmengine - INFO - Epoch(train) [1][{i:3d}/100]  lr: 1.0e-02  eta: 0:00:00  loss: 0.8\n"
        for i in (10, 20, 30)
    ),
    "Lightning csv": 'epoch,step,"train_loss",val_loss\n' + "".join(f"0,{i},0.5,\n0,{i},,0.25\n" for i in range(6)),
    "TensorBoard events": b"".join(records(6)),
}
NASTY = [
    *(
        b"\0",
        b"\xff\xfe",
        b"\x1b[31m",
        b"\r",
        b"\n",
        b'"',
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"-",
        b"NaN",
        b"-Infinity",
        b"null",
    ),
    *(
        b"1e999",
        b"9" * 5000,
        b"-" + b"9" * 400,
        b"1" * 30,
        b"[" * 3000,
        b'{"a":' * 3000,
        b"true",
        b"\\ud800",
        b"\xf0\x9f\x92\xa5",
    ),
    *(b'{"mode": "train", "epoch": 99999999999, "iter": 1}\n', b'{"step": -1, "loss": 1}\n', b'{"step": 1e300, "loss": 1}\n'),
    *(b"Epoch [999999999999][999999999999/999999999999] loss: 1\n", b"Epoch [1][1/0] loss: 1e99999\n", b"step,step,epoch\n"),
]


def outcome(path):
    try:
        log = read_log(path)
    except OcclabError as error:
        return None if str(error).isprintable() else pytest.fail(f"not one sentence: {error!r}")
    assert isinstance(log, TrainingLog)
    for group in (log.training, log.validation):
        for curve in group.values():
            assert curve.step.dtype == np.int64
            assert curve.value.dtype == np.float64
            assert len(curve.step) == len(curve.value)
            assert (np.diff(curve.step) > 0).all()
            assert (curve.step >= 0).all()
    assert log.rows > 0
    assert log.training
    longest = log.training.get("loss") or max(log.training.values(), key=lambda curve: len(curve.step))
    assert all(0 < start < len(longest.step) for start in log.restarts)
    assert all(text.isprintable() for text in (*log.notes, *log.training, *log.validation))
    log.settings.text.encode()
    return log


@pytest.mark.parametrize("name", LOGS)
def test_undamaged_they_are_read(tmp_path, name):
    (tmp_path / "log").write_bytes(LOGS[name] if isinstance(LOGS[name], bytes) else LOGS[name].encode())
    assert outcome(tmp_path / "log").format == name


@st.composite
def damaged(draw):
    content = LOGS[draw(st.sampled_from(sorted(LOGS)))]
    data = content if isinstance(content, bytes) else content.encode()
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 5)):
            case 0:
                data = data[:at]
            case 1:
                data = data[:at] + draw(st.binary(min_size=1, max_size=8)) + data[at + draw(st.integers(0, 8)) :]
            case 2:
                data = data[:at] + draw(st.sampled_from(NASTY)) + data[at:]
            case 3:
                data = b"\n".join(draw(st.permutations(data.split(b"\n")[:40])))
            case 4:
                data = data[:at] + data[draw(st.integers(0, len(data))) :]
            case 5:
                other = LOGS[draw(st.sampled_from(sorted(LOGS)))]
                data += other if isinstance(other, bytes) else other.encode()
    return data


@settings(max_examples=50, deadline=None)
@example(
    b"".join(
        b'{"mode": "%s", "%s": %d, "iter": %d, "loss": 1.0}\n' % row
        for row in ((b"val", b"epoch", 2, 9), (b"train", b" epoch", 1, 100), (b"train", b"epoch", 1, 50))
    ),
    "log",
)
@given(damaged(), st.sampled_from(["log", "a.log.json", "metrics.csv", "scalars.json"]))
def test_damaged_logs_are_read_or_refused_in_one_sentence(tmp_path_factory, data, name):
    path = tmp_path_factory.mktemp("damaged") / name
    path.write_bytes(data)
    outcome(path)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 9), st.booleans()), min_size=1, max_size=30))
def test_rows_in_any_order_give_curves_in_order(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("order") / "a.log.json"
    lines = [
        {"mode": "val" if v else "train", "epoch": e, "iter": i, "mIoU" if v else "loss": float(n)}
        for n, (e, i, v) in enumerate(rows)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    log = outcome(path)
    if log is not None:
        assert log.rows == sum(not v for *_, v in rows)
        last = max(n for n, (*_, v) in enumerate(rows) if not v)
        assert log.training["loss"].value[-1] == last  # whatever came before, the last row is the end of the curve


@pytest.mark.parametrize(
    "line",
    [
        "Epoch" + " " * 900_000 + "[",
        "Epoch [1][1/2] " + "a" * 900_000,
        "Epoch [1][1/2] " + "a:" * 400_000,
        "Epoch [1][1/2] loss: " + "1" * 900_000,
        "Epoch [1][1/2] loss: " + "1." * 400_000,
        "Epoch " * 150_000,
        "Epoch [" * 120_000,
        "Epoch [1][1/2] " + "eta: 1 " * 120_000,
        "{" * 900_000,
        '{"step": 1, "loss": ' + "[" * 900_000,
        '{"step": 1, "loss": ' + "1" * 900_000 + "}",
        '{"config": "' + "a=" * 90_000 + '"}',
        '{"config": "' + "a=(" * 60_000 + '"}',
        '{"config": "' + "a=" + "-" * 190_000 + '1"}',
        '{"config": "' + "a=" + "1+" * 95_000 + '1"}',
        '{"config": "' + "a=" + "x." * 95_000 + 'x"}',
        '{"config": "' + "a=1\\n" * 40_000 + '"}',
        "step,epoch" + ",x" * 400_000,
        'step,loss\n"' * 80_000,
    ],
    ids=lambda line: line[:30],
)
def test_no_line_takes_long(tmp_path, line):
    path = tmp_path / "log"
    path.write_text(line + "\n" + '{"step": 1, "lr": 0.1, "loss": 1.0}\nEpoch [1][50/100] loss: 0.5\n')
    begun = time.process_time()
    outcome(path)
    assert time.process_time() - begun < 5


def test_lines_without_an_end_are_left_out_and_counted(tmp_path):
    path = tmp_path / "a.log"
    row = "Epoch [1][{}/100]\tlr: 1.000e-04, loss: 0.5\n"
    path.write_text(
        row.format(10) + "x" * 5_000_000 + "\n" + row.format(20) + "y" * 1_500_000 + "\n" + row.format(30) + "z" * 3_000_000
    )
    log = read_log(path)
    assert log.training["loss"].step.tolist() == [10, 20, 30]
    assert "3 lines of over 1 MB are left out." in log.notes


def test_memory_does_not_grow_with_the_log(tmp_path, monkeypatch):
    monkeypatch.setattr("occlab.diagnosis.logs.curves.ROWS", 400)
    monkeypatch.setattr("occlab.diagnosis.logs.lines.BLOCK", 1 << 14)

    def peak(rows):
        path = tmp_path / f"{rows}.json"
        path.write_text("".join(f'{{"lr": 0.1, "loss": {step}.5, "step": {step}}}\n' for step in range(1, rows + 1)))
        tracemalloc.start()
        try:
            return read_log(path), tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(100)  # imports
    _, small = peak(1000)
    log, large = peak(10_000)
    assert large < 1.2 * small
    assert log.rows == 10_000
    loss = log.training["loss"]
    assert 200 < len(loss.step) <= 400
    np.testing.assert_array_equal(loss.step, np.arange(1, 10_001, 32))
    np.testing.assert_array_equal(loss.value, loss.step + 0.5)
    assert "Of the long curves one row in 32 is kept." in log.notes


def test_the_number_of_curves_is_bounded():
    curves = Curves()
    for i in range(3000):
        curves.add(curves.training if i % 2 else curves.validation, i, [(f"curve {i}", 1.0), ("x" * 1000, 2.0)])
    assert len(curves.training) + len(curves.validation) == 512
    assert curves.names_left_out


def test_control_characters_do_not_get_out(tmp_path):
    row = {"step": 1, "lr": 0.1, "loss": 1.0, "\x1b[2J<b>\u202e": 2.0}
    (tmp_path / "scalars.json").write_text(json.dumps(row))
    log = outcome(tmp_path / "scalars.json")
    assert "[2J<b>" in log.training
