"""The benchmarks run, and what they compare agrees."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent


def quick_run(name, folder, timeout=120, **environment):
    """The results and the page that a quick run writes."""
    command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), name, "--quick", "--device", "cpu"]
    env = os.environ | environment
    done = subprocess.run([*command, "--out", str(folder)], capture_output=True, text=True, timeout=timeout, env=env)
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
    assert examinations[1]["in steps"] > 1  # it trains two copies for 20 steps; how much longer that is, is the page's to say
    assert examinations[1]["cause"] == "none"
    for row in (*loops, *examinations):
        assert f"| {row['candidate']} |" in page


@pytest.fixture
def module(monkeypatch):
    """Imports a module of the benchmarks, by name."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


@pytest.mark.parametrize("kind", ["street", "noise"])
def test_the_volumes_of_the_viewers_are_nested_and_of_the_size_they_are_named_by(module, kind):
    kinds = module("viewer_kinds")
    first, second = kinds.volumes_of(kind, 5_000)
    assert (first.shape, first.sum(), second.sum()) == (kinds.GRID.shape, 5_000, 4_500)
    assert not (second & ~first).any()


def test_the_viewers_are_handed_the_same_voxels_in_the_same_colours(module):
    kinds = module("viewer_kinds")
    volume = np.random.default_rng(0).random(kinds.GRID.shape) < 0.001
    levels, rows = kinds._levels(volume), kinds._rows(volume)
    again = np.zeros_like(levels)
    again[tuple(rows[:, [2, 1, 0]].T)] = rows[:, 3]
    np.testing.assert_array_equal(again, levels)
    z = np.argwhere(volume)[:, 0]
    np.testing.assert_array_equal(levels[volume], z + 1)
    colours = kinds._colours()
    assert (len(colours), colours[0], colours[-1]) == (len(volume), 0x440154, 0xFDE725)  # the ends of viridis


def browser_or_skip(module):
    lab = module("live_page").lab
    if not lab.BROWSER:
        pytest.skip("no Chromium or Chrome here: apt-get install chromium")
    return lab


@pytest.mark.browser
def test_a_frame_is_noted_once_it_is_drawn_and_is_fresh_where_it_shows_something_else(module):
    lab = browser_or_skip(module)
    with lab.headless_browser() as browser:
        page = lab.new_page(browser)
        page.add_init_script(path=ROOT / "benchmarks" / "drawn.js")
        page.goto("data:text/html,<p id=said>before</p><canvas></canvas>")
        page.evaluate(POINTS)
        fresh = "draw => draw().then(() => drawn.frames.splice(0).map(frame => frame.fresh))"
        assert page.evaluate(f"({fresh})(() => points(3))") == [True]
        assert page.evaluate(f"({fresh})(() => points(3))") == [False]
        assert page.evaluate(f"({fresh})(() => points(7, true))") == []  # drawn aside
        assert page.evaluate(f"({fresh})(() => points(4))") == [True]
        assert page.evaluate(f"({fresh})(() => (points(9), points(4)))") == [False]  # the nine were cleared away at once

        assert 200 <= page.evaluate(LATE) < 5000
        assert page.evaluate("() => drawn.settled(drawn.clock(), 10)") is None
        assert page.evaluate(FOLLOWED) == ["after"]
        page.evaluate("() => drawn.release()")
        assert page.evaluate("() => gl.isContextLost()")


LATE = """async () => {
    const since = drawn.clock();
    setTimeout(() => points(5), 200);
    return await drawn.settled(since, 150) - since;
}"""
FOLLOWED = """async () => {
    const frames = drawn.follow(() => said.textContent), since = drawn.clock();
    said.textContent = 'after';
    await drawn.settled(since, 150, frames);
    return frames.map(frame => frame.value);
}"""
POINTS = """() => {
    const gl = document.querySelector('canvas').getContext('webgl'), program = gl.createProgram();
    const sources = {
        VERTEX_SHADER: 'void main() { gl_Position = vec4(0, 0, 0, 1); gl_PointSize = 9.0; }',
        FRAGMENT_SHADER: 'void main() { gl_FragColor = vec4(1, 0, 0, 1); }',
    };
    for (const [kind, source] of Object.entries(sources)) {
        const shader = gl.createShader(gl[kind]);
        gl.shaderSource(shader, source); gl.compileShader(shader); gl.attachShader(program, shader);
    }
    gl.linkProgram(program); gl.useProgram(program);
    const texture = gl.createTexture(), frame = gl.createFramebuffer();
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, 4, 4, 0, gl.RGBA, gl.UNSIGNED_BYTE, null);
    gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
    window.gl = gl;
    window.points = (count, aside = false) => {
        gl.bindFramebuffer(gl.FRAMEBUFFER, aside ? frame : null);
        gl.clear(gl.COLOR_BUFFER_BIT); gl.drawArrays(gl.POINTS, 0, count);
        return new Promise(resolve => setTimeout(resolve, 100));
    };
}"""
