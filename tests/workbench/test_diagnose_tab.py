"""The Diagnose tab: the doctor on the training in hand, its experiments, and other people's logs."""

import gc
import html
import json
import threading
import weakref
from dataclasses import replace

import pytest
import torch

import occlab
from occlab.diagnosis import diagnose_log, read_log
from occlab.losses import OccupancyLoss
from occlab.settings import PROFILES
from occlab.training import Batches, load_run, preset
from occlab.workbench.diagnose import Diagnose, examine, known_of
from occlab.workbench.open_run import BUILDING, OpenRun
from occlab.workbench.session import Session

LONG = 120


@pytest.fixture
def stood():
    return preset("as-it-stood", PROFILES["tiny"], steps=40)


@pytest.fixture
def desk(make_desk, stood):
    return make_desk(config=stood, name="as it stood", source="a store")


@pytest.fixture
def tab(desk):
    made = Diagnose(desk)
    made.show()
    return made


def begun(desk, until):
    """A training that runs, and is not soon at its end."""
    desk.set_up(config=replace(desk.config, steps=1000))
    session = desk.new_session()
    session.start()
    until(lambda: session.steps_made >= 1)
    return session


def looking(monkeypatch):
    """Let the doctor look until the event that this returns is set, and find nothing to say."""
    go = threading.Event()

    def examine(_):
        assert go.wait(LONG)
        raise occlab.OcclabError("nothing to say")

    monkeypatch.setattr("occlab.workbench.diagnose.examine", examine)
    return go


@pytest.fixture
def examined(tab, desk, pump, steps_to):
    """The tab after the doctor looked at a network of six steps."""
    steps_to(desk.new_session(), 6)
    tab.network.click()
    pump(lambda: tab.report is not None)
    return tab


def test_the_training_as_it_stood_has_one_cause_and_it_is_said_in_words(examined, desk):
    assert examined.report.cause == "bounded-output"
    said = examined._cards.value
    assert "root cause: <code>bounded-output</code>" in said
    assert html.escape(examined.report["bounded-output"].title) in said
    assert desk.session.state == "paused"  # as it was
    assert [step.step for step in desk.session.steps] == list(range(1, 7))


def test_it_is_the_report_of_the_network_as_it_stands(examined, desk, stood, frames):
    (_, model), batch = desk.session.model(), Batches(frames[:2], stood)[0]
    optimizer = torch.optim.AdamW(model.parameters(), lr=stood.learning_rate, weight_decay=stood.weight_decay)
    loss, clip = stood.loss, stood.clip_norm
    expected = occlab.diagnose(model, (batch.features, batch.target), loss, optimizer=optimizer, clip_norm=clip)
    assert examined.report.to_dict() == expected.to_dict()


def test_the_step_is_that_of_the_weights_however_fast_it_trains(tab, desk, pump, steps_to, monkeypatch):
    model = Session.model

    def and_steps_after(session):
        found = model(session)
        steps_to(session, 5)
        return found

    monkeypatch.setattr(Session, "model", and_steps_after)
    session = desk.new_session()
    steps_to(session, 3)
    tab.network.click()
    pump(lambda: tab.report is not None)
    assert f"Of the network of {session.name}, after 3 steps:" in tab._of.value


def test_of_a_stopped_network_the_step_of_its_checkpoint_is_named(tab, desk, pump, steps_to, monkeypatch):
    monkeypatch.setattr("occlab.workbench.open_run.QUICK_SAVE", 0.0)  # as of a network that is large
    session = desk.new_session()
    steps_to(session, 3)
    session.stop()
    desk.pump()
    assert f"{session.name}, after 0 steps." in tab._note.value
    tab.network.click()
    pump(lambda: tab.report is not None)
    assert f"Of the network of {session.name}, after 0 steps:" in tab._of.value


def test_what_was_found_before_is_let_go_with_its_buttons(examined, pump):
    [button, *_], first = examined.experiments.children, weakref.ref(examined.report["bounded-output"])
    assert button.comm is not None
    examined.network.click()
    assert (button.comm, button.layout.comm, button.style.comm) == (None, None, None)
    del button
    pump(lambda: examined.report is not None)
    gc.collect()
    assert first() is None
    assert examined.experiments.children[0].comm is not None


def test_an_experiment_is_run_and_its_prediction_judged(examined, pump):
    button = examined.experiments.children[0]
    assert button.description.startswith("try: ")
    assert "bounded-output: " in button.tooltip
    button.click()
    assert button.disabled
    pump(lambda: examined.trials)
    [trial] = examined.trials
    assert trial.experiment is examined.report["bounded-output"].next_experiment
    assert ("The prediction held" in examined._tried.value, "card good" in examined._tried.value) == (trial.held, trial.held)
    assert f"from {trial.without:.4g} to {trial.measured:.4g}" in examined._tried.value
    assert not button.disabled
    button.click()
    pump(lambda: not examined._busy)
    assert len(examined.trials) == 1


def test_a_training_that_runs_is_paused_meanwhile_and_goes_on(tab, desk, pump, until, monkeypatch):
    started, go = threading.Event(), threading.Event()

    def slowly(session):
        _, model = session.model()
        started.set()
        assert go.wait(LONG)
        raise occlab.OcclabError(f"<i>{type(model).__name__}</i> is tired")

    monkeypatch.setattr("occlab.workbench.diagnose.examine", slowly)
    session = desk.new_session()
    session.start()
    until(lambda: session.steps_made >= 1)
    tab.network.click()
    assert started.wait(LONG)
    assert "The training is paused, and goes on after." in tab._note.value
    assert tab.network.disabled
    assert tab.read.disabled
    until(lambda: session.state == "paused")
    made = session.steps_made
    go.set()
    pump(lambda: not tab._busy)
    until(lambda: session.steps_made > made)
    assert "&lt;i&gt;OccupancyUNet&lt;/i&gt; is tired" in tab._refusal.value  # a sentence, not an error
    assert not tab.network.disabled


def test_a_training_that_was_stopped_meanwhile_stays_so(tab, desk, pump, until, monkeypatch):
    session, go = begun(desk, until), looking(monkeypatch)
    tab.network.click()
    session.stop()
    go.set()
    pump(lambda: not tab._busy)
    assert session.state == "stopped"


def test_a_stop_that_is_just_taking_effect_is_not_undone(tab, desk, pump, until, monkeypatch):
    session, go, leave, leaving = begun(desk, until), looking(monkeypatch), OpenRun.leave, threading.Event()

    def slowly(run):
        leaving.set()
        until(lambda: not tab._busy)
        leave(run)

    monkeypatch.setattr(OpenRun, "leave", slowly)
    tab.network.click()
    assert session.wait(LONG)
    session.stop(wait=False)
    assert leaving.wait(LONG)
    assert session.state == "paused"  # still
    go.set()
    pump(lambda: not tab._busy)
    assert session.wait(LONG)
    assert session.state == "stopped"


def test_a_training_does_not_stay_paused_where_the_doctor_is_the_quicker(tab, desk, pump, until, monkeypatch):
    inside, step, make_step = threading.Event(), threading.Event(), OpenRun.make_step

    def slowly(run):
        inside.set()
        assert step.wait(LONG)
        return make_step(run)

    monkeypatch.setattr(OpenRun, "make_step", slowly)
    looking(monkeypatch).set()
    session = desk.new_session()
    session.start()
    assert inside.wait(LONG)
    tab.network.click()
    pump(lambda: not tab._busy)
    step.set()
    assert session.wait(LONG)
    assert session.state == "finished"


def test_a_training_that_another_replaced_meanwhile_is_stopped_and_the_other_left_alone(tab, desk, pump, until, monkeypatch):
    session, go = begun(desk, until), looking(monkeypatch)
    tab.network.click()
    assert session.wait(LONG)
    other = desk.new_session()
    go.set()
    pump(lambda: not tab._busy)
    assert session.wait(LONG)
    assert (session.state, other.state) == ("stopped", "idle")


def test_an_unexpected_error_is_told_to_the_desk_and_leaves_the_controls_usable(tab, desk, pump, monkeypatch):
    def broken(_):
        raise ZeroDivisionError("by <nothing>")

    monkeypatch.setattr("occlab.workbench.diagnose.examine", broken)
    desk.on("error", lambda: None)
    desk.new_session()
    tab.network.click()
    pump(lambda: desk.error[0])
    assert desk.error[0] == "ZeroDivisionError: by <nothing>"
    assert (tab.network.disabled, tab._busy) == (False, "")


def test_networks_are_not_built_while_the_doctor_draws_random_numbers(desk, monkeypatch):
    held = []
    monkeypatch.setattr("occlab.workbench.diagnose.diagnose", lambda *_, **__: held.append(BUILDING.locked()))
    examine(desk.new_session())
    assert held == [True]
    assert not BUILDING.locked()


def test_the_rate_is_the_one_set_by_hand_and_the_groups_keep_their_own(desk, stood, monkeypatch):
    seen = {}
    monkeypatch.setattr("occlab.workbench.diagnose.diagnose", lambda *_, **more: seen.update(more))
    desk.set_up(config=replace(stood, custom_keys={"refine": {"lr_mult": 10.0}}))
    session = desk.new_session()
    session.learning_rate = 2e-3
    examine(session)
    assert sorted(group["lr"] for group in seen["optimizer"].param_groups) == pytest.approx([2e-3, 2e-2])
    assert (seen["clip_norm"], seen["mask"]) == (0.1, None)


def test_without_a_training_there_is_only_the_log(tab, desk):
    assert (tab.network.disabled, tab.log.disabled, tab.read.disabled) == (True, True, False)
    assert "No training is in hand" in tab._note.value
    desk.new_session()
    assert (tab.network.disabled, tab.log.disabled) == (False, True)


# --- logs -------------------------------------------------------------------------------------------------------------


def test_the_log_of_a_finished_run_is_read_with_its_own_loss_and_rate(tab, desk, pump, to_the_end, stood):
    session = desk.new_session()
    to_the_end(session)
    desk.pump()
    tab.log.click()
    pump(lambda: tab.report is not None)
    log, summary = read_log(session.folder), load_run(session.folder).summary
    expected = diagnose_log(log, positive_rate=summary["occupied_share"], loss="bce+dice", dice_weight=0.5)
    assert tab.report.to_json() == expected.to_json() != diagnose_log(log).to_json()
    assert tab.experiments.children == ()  # a log has no network to try them on


def test_what_is_known_beside_a_log(stood):
    summary = {"occupied_share": 0.01}
    assert known_of(stood, summary) == {"positive_rate": 0.01, "loss": "bce+dice", "dice_weight": 0.5}
    assert known_of(replace(stood, loss=OccupancyLoss(dice=0)), summary) == {"positive_rate": 0.01, "loss": "bce"}
    assert known_of(replace(stood, loss=OccupancyLoss(bce=0, dice=0, focal=1)), summary) == {}
    assert known_of(stood, None) == {}


def write_log(folder, losses, name="scalars.json"):
    folder.mkdir(parents=True, exist_ok=True)
    rows = [json.dumps({"loss": loss, "lr": 1e-4, "grad_norm": 0.1, "iter": i, "step": i}) for i, loss in enumerate(losses, 1)]
    (folder / name).write_text("\n".join(rows) + "\n")
    return folder / name


def test_somebodys_log_is_read_with_what_is_known(tab, pump, tmp_path):
    plateau = [1.1931 + 0.3 * 0.9**i for i in range(300)]
    tab.path.value = str(write_log(tmp_path / "theirs", plateau))
    tab.rate.value, tab.loss.value = "1.5 %", "BCE + Dice"
    tab.read.click()
    pump(lambda: tab.report is not None)
    assert tab.report.cause == "plateau-at-floor"
    assert tab.report.subject in tab._cards.value


def test_a_folder_is_read_with_its_other_runs(tab, pump, tmp_path):
    for i in range(3):
        write_log(tmp_path / "runs-of-mine" / f"seed-{i}", [1 + 1 / (k + 1) for k in range(60)])
    tab.path.value = str(tmp_path / "runs-of-mine")
    tab.read.click()
    pump(lambda: tab.report is not None)
    assert "the newest of 3 runs" in tab.report.subject


@pytest.mark.parametrize(
    ("path", "rate", "sentence"),
    [
        ("", "", "name a log, or a folder with logs in it"),
        ("nowhere/<b>.log", "", "nowhere/&lt;b&gt;.log"),
        ("nowhere", "many", "occupied must be a number of percent, or left empty, got &#x27;many&#x27;"),
    ],
)
def test_a_log_that_cannot_be_read_is_a_sentence(tab, pump, path, rate, sentence):
    tab.path.value, tab.rate.value = path, rate
    tab.read.click()
    pump(lambda: tab._refusal.value)
    assert sentence in tab._refusal.value
    assert not tab.read.disabled


def test_names_from_a_file_reach_the_page_escaped(tab, pump, tmp_path):
    tab.path.value = str(write_log(tmp_path, [1.0] * 50, name="<img src=x>.log.json"))
    tab.read.click()
    pump(lambda: tab.report is not None)
    assert "<img src=x>" in tab.report.subject
    for place in (tab._cards, tab._note, tab._of):
        assert "<img" not in place.value


def test_browsing_puts_a_folder_into_the_field(tab, pump, tmp_path, monkeypatch):
    write_log(tmp_path / "inside", [1.0] * 5)
    monkeypatch.chdir(tmp_path)
    assert tab._place.layout.display == "none"
    tab.browse.value = True
    assert tab._place.layout.display == "flex"
    pump(lambda: "1 log, the newest scalars.json" in tab.picker._note.value)
    tab._take.click()
    assert tab.path.value == str(tmp_path)
    assert (tab.browse.value, tab._place.layout.display) == (False, "none")


def test_a_hidden_tab_does_not_follow_every_step(tab, desk, steps_to):
    tab.hide()
    said = tab._note.value
    steps_to(desk.new_session(), 3)
    desk.pump()
    assert tab._note.value == said
    tab.show()
    assert "after 3 steps" in tab._note.value
