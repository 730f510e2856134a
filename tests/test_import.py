"""``import occlab``: what it brings along, and what only once it is asked for."""

import subprocess
import sys

import pytest

import occlab

HEAVY = ("scipy", "open3d", "plotly", "cv2", "pandas", "IPython", "occlab.frames")


def in_a_fresh_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", f"import sys\n{code}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_it_brings_nothing_that_is_slow():
    assert in_a_fresh_process(f"import occlab; print([m for m in {HEAVY} if m in sys.modules])") == "[]"


def test_the_alignment_gate_is_there_once_it_is_asked_for():
    code = (
        "from occlab import Alignment, check_alignment; import occlab, occlab.alignment as a; "
        "print(check_alignment is a.check_alignment is occlab.check_alignment and Alignment is a.Alignment, "
        "'scipy.ndimage' in sys.modules, 'open3d' in sys.modules)"
    )
    assert in_a_fresh_process(code) == "True True False"


def test_every_public_name_is_listed_and_there_and_no_other():
    assert set(occlab.__all__) <= set(dir(occlab))
    assert all(getattr(occlab, name) is not None for name in occlab.__all__)
    assert "check_alignment" in in_a_fresh_process("import occlab; print(dir(occlab))")
    with pytest.raises(AttributeError, match="module 'occlab' has no attribute 'check_allignment'"):
        _ = occlab.check_allignment
