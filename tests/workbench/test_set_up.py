"""The tab in which a training is set up: what a person turns, reads and presses."""

from dataclasses import replace

import pytest

from occlab.settings import PROFILES
from occlab.training import preset
from occlab.workbench.desk import Desk
from occlab.workbench.knobs import KNOBS, PRESETS, choices_of, moments
from occlab.workbench.set_up import SetUp

LONG = 120


@pytest.fixture
def desk(tmp_path, frames, monkeypatch):
    monkeypatch.setenv("OCCLAB_PROFILE", "tiny")
    monkeypatch.setenv("OCCLAB_HOME", str(tmp_path / "home"))
    made = Desk(tmp_path / "runs")
    made.set_up(frames=frames[:2], held_out=frames[2:], source="a test")
    yield made
    made.close()


@pytest.fixture
def tab(desk):
    return SetUp(desk)


def turn(tab, **choices):
    """Turn knobs, named with a _ for each space."""
    for name, choice in choices.items():
        tab._controls[name.replace("_", " ")].value = choice


def marked(tab):
    return {label for label, control in tab._controls.items() if "occlab-changed" in control._dom_classes}


def test_it_starts_as_it_stood_at_the_size_that_suits_the_machine(tab, desk):
    assert (tab._preset.value, tab._size.value, desk.name) == ("as it stood", "tiny", "as it stood")
    stood = preset("as-it-stood", PROFILES["tiny"].for_sweeps(), precision=desk.config.precision)
    assert desk.config == replace(stood, snapshot_steps=moments(stood.steps))
    assert "As it stood." in tab._words.value
    assert marked(tab) == set()
    assert tab._undo.disabled


def test_a_turned_knob_reaches_the_desk_is_marked_and_said(tab, desk):
    told = []
    desk.on("setup", lambda: told.append(desk.config.model.head))
    turn(tab, head="logits", learning_rate="1e-3", steps=40)
    assert told == ["logits"] * 3
    assert (desk.config.model.head, desk.config.learning_rate, desk.config.steps) == ("logits", 1e-3, 40)
    assert desk.config.snapshot_steps == moments(40)
    assert desk.name == "as it stood, head logits, learning rate 1e-3, steps 40"
    assert marked(tab) == {"head", "learning rate", "steps"}
    assert "Different from as it stood:</b> head logits · learning rate 1e-3<" in tab._words.value
    turn(tab, head="rectified")
    assert marked(tab) == {"learning rate", "steps"}
    tab._undo.click()
    assert marked(tab) == set()
    assert (desk.config.learning_rate, desk.config.steps, desk.name) == (1e-4, 200, "as it stood")


def test_a_preset_fills_every_knob_and_its_own_choices_are_no_changes(tab, desk):
    turn(tab, targets="hard")
    for name in list(PRESETS)[1:]:
        tab._preset.value = name
        assert marked(tab) == set()
        assert desk.name == name
        assert {label: control.value for label, control in tab._controls.items()} == choices_of(desk.config)
    assert desk.config.steps == PROFILES["tiny"].for_recipe().steps  # the recommended recipe takes longer


def test_turned_knobs_stay_turned_at_another_size(tab, desk):
    turn(tab, head="logits")
    tab._controls["turns, degrees"].value = 10.0
    tab._size.value = "small"
    assert desk.config.grid == PROFILES["small"].grid
    assert (desk.config.model.head, desk.config.rotation, desk.config.steps) == ("logits", 10.0, PROFILES["small"].steps)
    assert marked(tab) == {"head", "turns, degrees"}


def test_what_cannot_be_is_one_sentence_and_the_desk_keeps_what_was_possible(tab, desk):
    turn(tab, output_prior="measured", prior_set_in="norm")
    possible = desk.config
    assert possible.prior_in == "norm"
    turn(tab, head="logits")
    assert desk.config == possible
    assert "needs a BatchNorm behind the last convolution" in tab.problem
    assert "This cannot be:" in tab._words.value
    assert tab._go.disabled
    assert marked(tab) == {"output prior", "prior set in", "head"}
    turn(tab, prior_set_in="convolution")
    assert (tab.problem, tab._go.disabled) == ("", False)
    assert desk.config.model.head == "logits"
    assert "This cannot be" not in tab._words.value


def test_what_changes_nothing_explains_itself(tab):
    turn(tab, output_prior="measured")
    assert "subtracts every bias away" in tab._remarks.value
    turn(tab, head="logits")
    assert tab._remarks.value == ""


def test_a_batch_larger_than_the_frames_is_refused_before_it_is_trained(tab, desk, frames):
    turn(tab, batch_size=3)
    assert "batch size is 3, but there are only 2 frames" in tab._words.value
    assert tab._go.disabled
    desk.set_up(frames=frames)
    assert "batch size" not in tab._words.value
    assert not tab._go.disabled


def test_train_this_starts_the_training_and_turns_the_page(tab, desk, pump):
    pages = []
    tab.on_train = lambda: pages.append("Train")
    turn(tab, head="logits", steps=3)
    assert "how long is known after a first run" in tab._words.value
    tab._go.click()
    assert pages == ["Train"]
    assert desk.session.config == desk.config
    assert desk.session.folder.name.startswith("as-it-stood-head-logits-steps-3-")
    pump(lambda: desk.session.state == "finished")
    pump(lambda: "by the last such training" in tab._words.value)
    turn(tab, steps=4)
    assert "4 steps: about" in tab._words.value
    turn(tab, depth="256 to 1024")  # which takes longer, nobody knows how long
    assert "how long is known after a first run" in tab._words.value


def test_without_frames_there_is_nothing_to_train(tmp_path, monkeypatch):
    monkeypatch.setenv("OCCLAB_PROFILE", "tiny")
    tab = SetUp(Desk(tmp_path))
    assert tab._go.disabled
    assert tab._go.tooltip == "There are no frames yet"
    tab._train()  # as a message that was under way would
    assert "there are no frames" in tab.desk.error[0]


def test_every_control_says_what_it_does_and_once_known_what_it_did(tab, pump):
    for knob in KNOBS:
        assert tab._controls[knob.label].tooltip == knob.what
        assert tab._controls[knob.label].description == knob.label
        assert f"<b>{knob.label}.</b>" in tab._about.value
    tab.show()
    pump(lambda: "Recorded" in tab._controls["loss"].tooltip)
    for knob in KNOBS:
        words = tab._controls[knob.label].tooltip.removeprefix(knob.what)
        assert ("with rectified" in words or "IoU" in words) == bool(knob.arms or knob.factor or knob.label == "head")
    assert "Recorded: not among the recorded runs." in tab._about.value
    for control in (tab._preset, tab._size, tab._undo, tab._go):
        assert control.tooltip


def test_a_configuration_from_elsewhere_is_shown_and_can_be_turned_on(tab, desk):
    odd = replace(desk.config, learning_rate=2.5e-4, flip=True, steps=70, snapshot_steps=(5,))
    desk.set_up(config=odd, name="of a colleague")
    assert (tab._preset.value, tab._size.value, tab._controls["learning rate"].value) == (None, None, None)
    assert (tab._controls["flips"].value, tab._controls["steps"].value) == ("yes", 70)
    assert desk.config == odd, "showing it changes nothing"
    assert "learning rate another value" in tab._words.value
    turn(tab, head="logits")
    assert (desk.config.learning_rate, desk.config.model.head) == (2.5e-4, "logits")
    assert desk.name == "of a colleague, head logits"
    tab._size.value = "small"
    assert (tab._preset.value, desk.config.flip, desk.config.model.head) == ("as it stood", True, "logits")
    assert desk.config.steps == PROFILES["small"].steps
    desk.set_up(config=odd)
    tab._preset.value = "repaired"
    assert (tab._size.value, desk.config.learning_rate) == ("tiny", 1e-3)


def test_a_name_from_a_file_is_never_a_tag(tab, desk):
    desk.set_up(config=replace(desk.config, steps=9), name="<img src=x>", source="<img src=y>", frames=desk.frames[:1])
    turn(tab, head="logits")
    shown = "".join(w.value for w in (tab._words, tab._remarks, tab._about, tab._data._note, tab._data._found))
    assert "<img" not in shown
    assert "&lt;img src=y&gt;" in shown
