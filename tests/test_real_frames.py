"""The command that holds the repair against somebody's frames, at a small size."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "real_frames.py"


def run(*arguments, home):
    env = {"PATH": "", "OMP_NUM_THREADS": "1", "OCCLAB_HOME": str(home), "HOME": str(home)}
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, env=env)


def test_both_trainings_and_the_input_are_scored_and_a_network_no_better_than_its_input_fails(tmp_path):
    done = run(SCRIPT.parents[1] / "data_samples", "--profile", "tiny", "--steps", 10, home=tmp_path)
    assert done.returncode == 1, done.stderr  # ten steps do not beat the input
    frames, stood, recommended, given = done.stdout.splitlines()
    assert "frames to train on; held out: " in frames
    assert stood.startswith("as-it-stood")
    assert "loss" in stood
    assert recommended.startswith("recommended")
    assert "in eval()" in recommended
    assert given.startswith("the input itself")
    assert "IoU held out 0." in given


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path):
    done = run(tmp_path / "nothing", "--profile", "tiny", home=tmp_path)
    assert done.returncode == 2
    assert "nothing" in done.stderr
    assert "Traceback" not in done.stderr
