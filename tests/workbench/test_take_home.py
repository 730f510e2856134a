"""What is taken home is whole: it runs, it is read back as it was, and it is found where the page says it is."""

import base64
import html
import re
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from occlab import OcclabError
from occlab.ablation import read_table
from occlab.errors import require
from occlab.frames import read_frames
from occlab.interop import read_mmdet3d
from occlab.settings import PROFILES
from occlab.training import load_run, preset, train
from occlab.workbench import exports
from occlab.workbench.desk import Desk
from occlab.workbench.take_home import ALL_LINKS, LARGEST_LINK, TakeHome, files_table

TINY = PROFILES["tiny"]


@pytest.fixture(scope="module")
def frames(store):
    return read_frames(store)


@pytest.fixture(scope="module")
def made_once(frames, tmp_path_factory):
    config = preset("as-it-stood", TINY, steps=6, snapshot_steps=(0, 6), head="logits")
    return train(config, frames[:2], frames[2:], name="logits", root=tmp_path_factory.mktemp("runs"), progress=False)


@pytest.fixture
def trained(made_once, tmp_path):
    return load_run(shutil.copytree(made_once.folder, tmp_path / "home" / "runs" / made_once.folder.name))


@pytest.fixture
def desk(trained, frames):
    made = Desk(trained.folder.parent)
    made.set_up(frames=frames[:2], held_out=frames[2:])
    yield made
    made.close()


@pytest.fixture
def tab(desk, tmp_path, monkeypatch):
    """Shown, with a folder of its own; pictures are none, which a test of their own draws."""
    monkeypatch.setattr(exports, "png", lambda figure: b"\x89PNG of " + figure.layout.title.text.encode())
    made = TakeHome(desk)
    made.show()
    made.folder.value = str(tmp_path / "taken")
    return made


@pytest.fixture
def press(desk, tab):
    """(name of a button): press it, and wait until it has done its work."""

    def pressed(name):
        tab.buttons[name].click()
        for thread in list(desk._threads):
            thread.join(60)
        desk.pump()
        assert desk.error == ("", ""), desk.error[1]
        assert not any(button.disabled for button in tab.buttons.values())

    return pressed


def files(tmp_path):
    return {path.name for path in (tmp_path / "taken").iterdir()}


def said(tab):
    return html.unescape(re.sub("<[^>]+>", "", tab._note.value))


# --- what is taken ----------------------------------------------------------------------------------------------------


def test_the_configuration_comes_in_all_its_forms(tab, press, trained, tmp_path):
    press("configuration")
    assert files(tmp_path) == {"config.py", "design.yaml", "mmdet3d_mmengine.py", "mmdet3d_mmcv.py"}
    for style in ("mmengine", "mmcv"):
        read = read_mmdet3d(tmp_path / "taken" / f"mmdet3d_{style}.py")
        assert (read.config, read.style, read.not_carried) == (trained.config, style, ())
    assert said(tab) == f"4 files are in {tmp_path / 'taken'}."


def test_the_zipped_run_is_the_run(tab, press, trained, tmp_path):
    (trained.folder / ".half.1").write_text("left by a process that was killed")
    press("run, zipped")
    path = tmp_path / "taken" / f"{trained.folder.name}.zip"
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path / "unpacked")
    assert [folder.name for folder in (tmp_path / "unpacked").iterdir()] == [trained.folder.name]
    run = load_run(tmp_path / "unpacked" / trained.folder.name)
    assert (run.config, run.steps, run.summary) == (trained.config, trained.steps, trained.summary)
    for a, b in zip(run.model().parameters(), trained.model().parameters(), strict=True):
        assert torch.equal(a, b)
    assert not [name for name in run.folder.rglob(".*") if name.is_file()]
    assert sorted(run.snapshots()) == [0, 6]


def test_the_table_is_of_all_runs_or_of_the_chosen_ones(tab, press, trained, frames, desk, tmp_path):
    other = train(replace(trained.config, seed=1), frames[:2], frames[2:], name="b", root=desk.root, progress=False)
    desk.tell("runs")
    press("table of runs")
    rows = read_table(tmp_path / "taken" / "runs.csv")
    assert {row["run"] for row in rows} == {trained.folder.name, other.folder.name}
    assert {row["seed"]: row["settled_loss"] for row in rows}[1] == other.summary["settled_loss"]
    tab.table_runs.value = (other.folder,)
    press("table of runs")
    assert [row["run"] for row in read_table(tmp_path / "taken" / "runs.csv")] == [other.folder.name]


def test_figures_are_pages_on_their_own_and_pictures(tab, press, trained, tmp_path):
    press("figures")
    assert files(tmp_path) == {"loss.html", "prediction.html", "loss.png", "prediction.png"}
    for name, title in (("loss", "Loss"), ("prediction", "Prediction against target: frame-2")):
        page = (tmp_path / "taken" / f"{name}.html").read_text(encoding="utf-8")
        assert not re.search(r"<script[^>]+src=|<link[^>]+href=", page)  # nothing is fetched
        assert "Plotly.newPlot" in page
        assert title in page
        assert (tmp_path / "taken" / f"{name}.png").read_bytes() == b"\x89PNG of " + title.encode()


def test_the_prediction_is_the_network_s_for_the_frame_held_out(trained, frames):
    figure = exports.prediction_figure(trained, frames[2])
    shown = {
        name: int(n.replace(",", "")) for name, n in (re.fullmatch(r"(.+) \((.+)\)", t.name).groups() for t in figure.data[:3])
    }
    p = trained.predict(frames[2]) > 0.5
    assert shown["hit"] + shown["false alarm"] == int(p.sum()) > 0


def test_a_loss_that_is_not_finished_is_drawn_and_what_is_missing_is_said(trained, frames, tmp_path):
    folder = tmp_path / "begun-1"
    folder.mkdir()
    for name in ("config.json", "scalars.json"):
        (folder / name).write_bytes((trained.folder / name).read_bytes())
    made = list(exports.write_figures(folder, frames[0], tmp_path, pictures=False))
    assert made == ["The prediction is left out: the run has no weights yet; its first checkpoint comes when it is stopped, or "
                    "after 25 steps.", tmp_path / "loss.html"]  # fmt: skip
    assert "no frame" in next(iter(exports.write_figures(trained.folder, None, tmp_path, pictures=False)))


def test_without_chromium_the_pages_are_written_and_one_sentence_says_so(tab, press, tmp_path, monkeypatch):
    monkeypatch.undo()

    def fails(*_, **__):
        raise RuntimeError("Kaleido requires Google Chrome\nto be installed")

    monkeypatch.setattr(require("kaleido"), "calc_fig_sync", fails)
    press("figures")
    assert files(tmp_path) == {"loss.html", "prediction.html"}
    assert said(tab).startswith("2 files are in ")
    assert "There is no PNG: a picture needs kaleido with Chromium or Chrome, which did not start" in said(tab)


def test_a_picture_is_a_png(trained, monkeypatch):
    lab = Path(__file__).parents[1] / "browser"
    monkeypatch.syspath_prepend(str(lab))
    if __import__("lab").BROWSER is None:
        pytest.skip("needs Chromium or Chrome")
    picture = exports.png(exports.loss_figure({"a": [(1, 1.3), (2, 1.2)]}))
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(picture[16:20], "big") == 2 * exports.WIDTH


def test_all_of_it_goes_on_where_one_part_fails(tab, press, tmp_path, monkeypatch):
    def fails(*_):
        raise OcclabError("the disk is full")

    monkeypatch.setattr(exports, "write_configuration", fails)
    press("all of it")
    assert len(files(tmp_path)) == 1 + 4 + 2
    assert said(tab) == f"7 files are in {tmp_path / 'taken'}. the disk is full."


# --- where it goes, and how it is got ---------------------------------------------------------------------------------


def test_files_go_beside_the_runs_until_a_folder_is_named(desk, trained):
    tab = TakeHome(desk)
    tab.show()
    assert Path(tab.folder.value) == desk.root.parent / "take_home" / trained.folder.name
    assert tab.target() == Path(tab.folder.value)
    tab.folder.value = "/somewhere/else"
    desk.tell("runs")
    assert tab.folder.value == "/somewhere/else"
    tab.folder.value = ""
    assert Path(tab.folder.value) == desk.root.parent / "take_home" / trained.folder.name


@pytest.mark.parametrize(
    ("folder", "sentence"),
    [
        ("here", "expected a whole path of a folder to write to"),
        ("{tmp}/file/below", "cannot be written"),
        ("{root}/{run}", "the runs themselves lie there"),
        ("{root}/../runs", "the runs themselves lie there"),
        ("/proc/nowhere", "cannot be written"),
        ("~nobody-of-this-name/taken", "there is no home of that name here"),
        ("{tmp}/circle/taken", "/circle/taken"),
    ],
)
def test_a_bad_folder_is_one_sentence(folder, sentence, tab, press, desk, trained, tmp_path):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "circle").symlink_to("circle")
    tab.folder.value = folder.format(tmp=tmp_path, root=desk.root, run=trained.folder.name)
    before = sorted(trained.folder.iterdir())
    press("configuration")
    assert sentence in said(tab)
    assert 'role="alert"' in tab._note.value
    assert sorted(trained.folder.iterdir()) == before


@pytest.mark.parametrize("name", ["all of it", "run, zipped", "figures", "configuration", "table of runs"])
def test_what_lies_in_a_named_folder_is_not_written_over(name, tab, press, trained, tmp_path):
    press(name)
    promised, before = files(tmp_path), tab._made
    assert len(promised) == {"all of it": 11, "run, zipped": 1, "table of runs": 2}.get(name, 4)
    press(name)  # what this workbench wrote itself it writes again
    assert said(tab).endswith(f"in {tmp_path / 'taken'}.")
    for number, own in enumerate(sorted(promised)):
        tab.folder.value = str(tmp_path / ("" if number % 2 else "home/take_home") / f"with {own}")
        there = Path(tab.folder.value, own)
        there.parent.mkdir(parents=True)
        there.write_text("mine")
        press(name)
        assert said(tab) == f"{there} is there already, and nothing was written: name another folder, or take it away"
        assert [path.read_text() for path in there.parent.iterdir()] == ["mine"]
    assert tab._made.keys() == before.keys()


@pytest.mark.parametrize("folder", ["taken", "home/take_home", "home/take_home/../../taken"])
def test_two_runs_do_not_write_over_each_other_s_files_in_a_named_folder(folder, tab, press, trained, frames, desk, tmp_path):
    tab.folder.value = str(tmp_path / folder)
    other = train(replace(trained.config, seed=1), frames[:2], frames[2:], name="b", root=desk.root, progress=False)
    desk.tell("runs")
    tab.run.value = trained.folder
    press("configuration")
    kept = (tmp_path / folder / "config.py").read_bytes()
    tab.run.value = other.folder
    press("configuration")
    assert "config.py is there already" in said(tab)
    assert (tmp_path / folder / "config.py").read_bytes() == kept
    press("table of runs")
    tab.run.value = trained.folder
    press("table of runs")  # which is of no run
    assert "files are in" in said(tab)


@pytest.mark.parametrize("name", ["taken", ""], ids=["named", "beside the runs"])
def test_what_was_changed_since_it_was_written_is_not_written_over(name, tab, press, tmp_path):
    tab.folder.value = name and str(tmp_path / name)
    press("configuration")
    changed = Path(tab.folder.value, "config.py")
    changed.write_text("with changes of my own")
    press("configuration")
    assert said(tab).startswith(f"{changed} is there already")
    assert changed.read_text() == "with changes of my own"
    changed.unlink()
    press("configuration")
    assert said(tab).startswith("4 files are in")


def test_what_came_before_the_disk_was_full_is_known_and_written_again(tab, press, tmp_path, monkeypatch):
    write = exports.write_atomically

    def full(path, fill):
        if path.name == exports.CONFIGURATION[-1]:
            raise OcclabError("the disk is full")
        write(path, fill)

    monkeypatch.setattr(exports, "write_atomically", full)
    press("configuration")
    assert "the disk is full" in said(tab)
    assert len(files(tmp_path)) == 3
    monkeypatch.setattr(exports, "write_atomically", write)
    press("configuration")
    assert said(tab).startswith("4 files are in")


def test_the_folder_of_a_run_beside_the_runs_is_written_again_another_day(desk, trained, tmp_path):
    for _ in range(2):
        tab = TakeHome(desk)
        tab.show()
        tab.buttons["configuration"].click()
        for thread in list(desk._threads):
            thread.join(60)
        desk.pump()
        assert said(tab).startswith("4 files are in")


def test_without_a_run_it_says_so(tmp_path):
    desk = Desk(tmp_path / "runs")
    tab = TakeHome(desk)
    tab.show()
    tab.folder.value = str(tmp_path / "taken")
    for name, sentence in (("run, zipped", "no run to take home yet"), ("table of runs", "no runs yet")):
        tab.buttons[name].click()
        desk.close()
        desk.pump()
        assert sentence in said(tab)


def test_the_training_in_hand_is_taken_first(desk, tab, frames, press, tmp_path):
    desk.set_up(config=preset("as-it-stood", TINY, steps=6, seed=3), name="mine")
    session = desk.new_session()
    session.step(2)
    assert session.wait(60)
    session.stop()
    desk.pump()
    tab = TakeHome(desk)
    tab.show()
    assert session.folder.name in tab.run.options[0][0]
    assert tab.chosen() == session.folder
    assert Path(tab.folder.value).name == session.folder.name


def test_a_small_file_is_in_its_link_and_a_large_one_says_its_path(tmp_path):
    small, large = tmp_path / "<b>&'\".py", tmp_path / "large.zip"
    small.write_bytes(bytes(range(256)))
    large.write_bytes(b"0" * LARGEST_LINK)
    said = files_table([small, large, tmp_path / "gone"])
    link = re.search(r'<a href="data:[a-z/.-]+;base64,([^"]*)" download="([^"]*)"', said)
    assert base64.b64decode(link[1]) == small.read_bytes()
    assert html.unescape(link[2]) == small.name
    assert said.count("<a ") == 1
    assert str(large) in said
    assert "2.0&nbsp;MB" in said
    assert "<b>" not in said
    assert said.count('<th scope="row">') == 2


def test_of_many_files_the_latest_are_in_their_links(tmp_path):
    paths = [tmp_path / f"{i}.zip" for i in range(9)]
    for path in paths:
        path.write_bytes(b"0" * (LARGEST_LINK - 1))
    table = files_table(paths)
    linked = re.findall(r'download="([^"]*)"', table)
    assert linked == [path.name for path in paths[: len(linked)]]
    assert len(linked) == ALL_LINKS // LARGEST_LINK
    assert [str(path) for path in paths[len(linked) :] if f">{path}</td>" in table] == [str(p) for p in paths[len(linked) :]]
    assert "too large" not in table


def test_the_page_lists_what_was_taken_the_latest_first(tab, press, tmp_path):
    press("configuration")
    press("run, zipped")
    names = re.findall(r'<th scope="row">([^<]+)</th>', tab._files.value)
    assert names[0].endswith(".zip")
    assert set(names) == files(tmp_path)
    press("configuration")
    assert len(re.findall(r'<th scope="row">', tab._files.value)) == len(names)


def test_every_control_says_what_it_is_for(tab):
    assert all(control.tooltip for control in (tab.run, tab.folder, tab.table_runs, *tab.buttons.values()))
