"""The benchmarks run, and what they compare agrees."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def quick_run(name, folder):
    """The results and the page that a quick run writes."""
    command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), name, "--quick", "--device", "cpu"]
    done = subprocess.run([*command, "--out", str(folder)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    page = (folder / f"{name}.md").read_text()
    assert page in done.stdout
    return json.loads((folder / f"{name}.json").read_text()), page


@pytest.mark.slow
def test_a_quick_run_writes_tables_in_which_every_candidate_agrees(tmp_path):
    results, page = quick_run("voxelization", tmp_path)
    assert len(results["tables"]) == 2
    for table in results["tables"]:
        ours = table["rows"][0]
        assert ours["candidate"].startswith("occlab")
        assert ours["ratio"] == ours["min_ratio"] == 1
        for row in table["rows"]:
            assert 0 < row["min_ms"] <= row["median_ms"]
            assert f"| {row['candidate']} |" in page
            for column in ("voxels that differ", "counts that differ"):
                assert row.get(column, "0") == "0", row


@pytest.mark.slow
def test_a_quick_run_of_the_readers_reads_what_was_written(tmp_path):
    results, page = quick_run("readers", tmp_path)
    points, voxels = (table["rows"] for table in results["tables"])
    assert len(points) + len(results["left_out"]) == 9
    assert len(voxels) == 5
    for unit, rows in (("points", points), ("voxels", voxels)):
        for row in rows:
            assert f"| {row['candidate']} | {row[unit]} |" in page
            assert 0 < row["min_ms"] <= row["median_ms"]
            count = int(row[unit].replace(",", ""))
            assert row[f"million {unit}/s"] == pytest.approx(count / row["min_ms"] / 1000)
            assert row[f"fromfile, million {unit}/s"] > 0
    for row in points:
        assert float(row["largest error"]) <= 1e-3, row  # LAS and occlab's own files hold millimetres
    for row in voxels:
        assert row["voxels that differ"] == "0", row
        assert row["occupied"] != "0", row


@pytest.mark.slow
def test_a_quick_run_of_visibility_finds_the_same_first_hits_by_every_caster(tmp_path):
    results, page = quick_run("visibility", tmp_path)
    states, hits = (table["rows"] for table in results["tables"])
    for row in (*states, *hits):
        assert f"| {row['candidate']} |" in page
        assert row["million rays/s"] > 0
    for row in states:
        assert row["free only here"] == "0", row
    assert states[0]["missed"] == states[1]["missed"] == "0"
    for row in hits:
        assert row["wrong of 500"] == "0", row


def test_an_unknown_benchmark_is_refused():
    command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), "nonsense"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "no benchmark named nonsense" in done.stderr


@pytest.mark.slow
def test_a_quick_run_of_the_doctor_times_loops_and_examinations_beside_the_plain_step(tmp_path):
    results, page = quick_run("doctor", tmp_path)
    loops, examinations = (table["rows"] for table in results["tables"])
    assert [row["candidate"] for row in loops] == ["plain", "watched", "watched, a look at every step"]
    assert loops[0]["× plain"] == examinations[0]["in steps"] == 1
    assert examinations[1]["in steps"] > 20  # it trains two copies for 20 steps
    assert examinations[1]["cause"] == "none"
    for row in (*loops, *examinations):
        assert f"| {row['candidate']} |" in page
