"""The benchmarks run, and what they compare agrees."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_a_quick_run_writes_tables_in_which_every_candidate_agrees(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), "voxelization", "--quick", "--device", "cpu"]
    done = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "voxelization.json").read_text())
    page = (tmp_path / "voxelization.md").read_text()
    assert page in done.stdout
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


def test_an_unknown_benchmark_is_refused():
    command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), "nonsense"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "no benchmark named nonsense" in done.stderr
