"""A person at the workbench: the plateau, its cause and its end, in JupyterLab and on the page of ``occlab workbench``."""

import re

import numpy as np
import pytest
from bench import Bench, kernel_of, opened, served
from faults import picture, pixels_that_differ
from lab import drag

STEPS = 500  # a tiny run is on its floor by then
HALF = 1.152
"""What p = 1/2 everywhere costs on the tiny streets is above this."""


@pytest.fixture(params=["lab", "served"])
def bench(request, page, own_home, monkeypatch):
    if request.param == "lab":
        yield opened(page, request.getfixturevalue("own_lab"))
    else:
        monkeypatch.setenv("OCCLAB_HOME", str(own_home))
        with served(own_home / "served" / "runs") as (address, _):
            page.goto(address)
            yield Bench(page)


def finish(bench):
    """The training that was started, to its end."""
    bench.turn_to("Train")
    bench.reads(rf"(?s)finished.*step {STEPS} of {STEPS}")


@pytest.mark.slow
def test_the_plateau_its_cause_and_its_end(bench):
    bench.page.script_errors.clear()  # of the page before
    stood, freed = plateau(bench), through_the_floor(bench)
    assert freed > 1.5 * stood, f"IoU {stood} as it stood, {freed} on logits"
    looked_at(bench)
    turned_by_k3d(bench)
    steered(bench)
    compared(bench)
    diagnosed(bench)
    taken_home(bench)
    slow = "[anywidget] Failed to initialize model"  # anywidget's word for "took more than two seconds"; it then goes on
    assert [error for error in bench.page.script_errors if slow not in error] == []


def plateau(bench):
    """Train as it stood: the loss ends on a line, and the line has a name. Returns the IoU."""
    bench.turn_to("Set up")
    bench.reads(r"\d+ to train on")
    bench.choose("preset", "as it stood")
    bench.write("steps", str(STEPS))
    bench.keep("set-up")
    bench.press("train this")
    finish(bench)
    bench.reads(r"(?s)floor within 1 % of it.*p = 1/2 everywhere")
    loss = bench.curves()["loss"]
    written = bench.written()
    found = {float(f) for text in written for f in re.findall(r"p\s=\s1/2\s*everywhere\s*([\d.]+)", text)}
    assert len(found) == 1, " | ".join(written)
    (floor,) = found
    assert max(abs(value / floor - 1) for value in loss) < 0.05, (loss, floor)
    bench.keep("train-plateau")
    return iou(bench)


def through_the_floor(bench):
    """Change the head and the rate, and train again. Returns the IoU."""
    bench.turn_to("Set up")
    bench.choose("head", "logits")
    bench.choose("learning rate", "1e-3")
    bench.press("train this")
    finish(bench)
    assert bench.curves()["loss"][-1] < HALF
    bench.keep("train-logits")
    return iou(bench)


def iou(bench):
    return float(bench.reads(r"IoU of the batch\s+([\d.]+)")[1])


def looked_at(bench):
    """Threshold and step change the picture."""
    bench.turn_to("Look")
    first = bench.until(lambda: (now := bench.scene())["colours"] > 20 and now, "the volume is drawn")
    assert first["pixels"] > 50_000
    bench.slide("threshold", "ArrowLeft", 8)
    bench.reads(r"p > 0\.42")
    second = bench.changed_scene(first)
    bench.keep("look")
    bench.slide("step", "Home")
    bench.reads("after 0 steps")
    third = bench.changed_scene(second)
    bench.slide("step", "End")
    bench.reads(f"after {STEPS} steps")
    bench.changed_scene(third)


def turned_by_k3d(bench):
    """Both scenes by the other viewer: a drag in one turns both; and back."""
    bench.choose("3-D by", "k3d, every voxel")
    scenes = bench.root.locator("canvas:visible")
    bench.until(lambda: scenes.count() == 2, "k3d shows two scenes")
    bench.until(lambda: all(colours(bench, scenes.nth(i)) > 20 for i in (0, 1)), "the voxels are drawn")
    before = [picture(bench.page, scenes.nth(i)) for i in (0, 1)]
    bench.keep("look-k3d")
    drag(bench.page, scenes.first, 60, 0)
    for i in (0, 1):
        bench.until(
            lambda i=i: pixels_that_differ(before[i], picture(bench.page, scenes.nth(i))) > 2000, f"scene {i} has turned"
        )
    bench.choose("3-D by", "Plotly")
    bench.until(lambda: bench.scene()["colours"] > 20, "Plotly draws again")


def colours(bench, element):
    return len(np.unique(picture(bench.page, element).reshape(-1, 3), axis=0))


def steered(bench):
    """Reset, start, pause, single step, resume, stop."""
    bench.turn_to("Train")
    bench.press("↺ reset")
    bench.reads(rf"step 0 of {STEPS}")
    bench.press("▶ start")
    bench.reads(rf"training\s+step [1-9]\d* of {STEPS}")
    bench.press("❚❚ pause")
    paused = int(bench.reads(rf"paused\s+step (\d+) of {STEPS}")[1])
    bench.press("▶❙ single step")
    bench.reads(rf"paused\s+step {paused + 1} of {STEPS}")
    bench.press("▶ resume")
    bench.reads(rf"training\s+step (?!{paused + 1} )\d+ of {STEPS}")
    bench.press("■ stop")
    bench.reads(rf"stopped; its folder keeps every step\s+step \d+ of {STEPS}")


def compared(bench):
    """Both runs side by side, one of them the yardstick."""
    bench.turn_to("Compare")
    bench.until(lambda: sum("as it stood" in text or "logits" in text for text in bench.written()) > 0, "curves are labelled")
    bench.keep("compare")


def diagnosed(bench):
    """The doctor names the cause of the run as it stood."""
    bench.turn_to("Set up")
    bench.choose("head", "rectified")
    bench.choose("learning rate", "1e-4")
    bench.press("train this")  # it is found, not trained again
    finish(bench)
    bench.turn_to("Diagnose")
    bench.press("diagnose the training")
    bench.reads("bounded-output")
    bench.keep("diagnose")


def taken_home(bench):
    bench.turn_to("Take home")
    bench.press("configuration")
    bench.reads(r"\.yaml")
    bench.keep("take-home")


@pytest.mark.slow
def test_a_kernel_that_is_killed_loses_no_run(page, own_home, monkeypatch):
    monkeypatch.setenv("OCCLAB_HOME", str(own_home))
    with served(own_home / "killed" / "runs") as (address, server):
        page.goto(address)
        begun = long_training(Bench(page), seed=1)
        kernel = kernel_of(server)
        kernel.kill()
        page.get_by_text("The Python behind this page has ended").wait_for(timeout=60_000)
        page.goto(address.partition("?")[0])
        bench = Bench(page)
        bench.reads(r"\d+ to train on")
        bench.turn_to("Train")
        kept = int(bench.reads(r"begun, not finished\s+\S+:\sstep\s(\d+)\sof\s5000")[1])  # a list's spaces do not break
        assert kept >= begun, "intact up to its last flush"
        bench.press("go on")
        bench.until(lambda: bench.steps_made() > kept, "it goes on")
        bench.press("■ stop")
        bench.reads("stopped; its folder keeps every step")


@pytest.mark.slow
def test_two_workbenches_do_not_fight_over_a_run(page, own_home, monkeypatch):
    monkeypatch.setenv("OCCLAB_HOME", str(own_home))
    with served(own_home / "shared" / "runs") as (address, _):
        page.goto(address)
        bench = Bench(page)
        long_training(bench, seed=2)
        second = page.context.browser.new_page()
        second.goto(address)
        other = Bench(second)
        long_training(other, seed=2, wait="another session or process trains in this folder")
        bench.press("■ stop")
        other.until(lambda: other.steps_made() > 0 and "training" in other.text(), "the other goes on")
        other.press("■ stop")
        other.reads("stopped; its folder keeps every step")
        second.close()


def long_training(bench, *, seed, wait=r"training\s+step (?:[2-9]\d|\d{3,}) of 5000"):
    """Begin one that is not over soon; returns the number of steps made."""
    bench.turn_to("Set up")
    bench.reads(r"\d+ to train on")
    bench.write("steps", "5000")
    bench.write("seed", str(seed))
    bench.press("train this")
    bench.reads(wait)
    return bench.steps_made()
