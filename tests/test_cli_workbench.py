"""``occlab workbench`` as a process: who is let in, what a stranger gets, and how it ends."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from http.cookies import SimpleCookie

import psutil
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

import occlab.workbench
from occlab.cli import main
from occlab.errors import OcclabError
from occlab.workbench.serve import page

SENTENCE = "This page opens with the address that occlab workbench printed, with its token.\n"


class Served:
    """A running ``occlab workbench``, in a folder whose files try to change what it does."""

    def __init__(self, folder, *arguments, **environment):
        other = folder / "kernels" / "python3"  # another Python's kernel of the same name
        other.mkdir(parents=True)
        (other / "kernel.json").write_text(json.dumps({"argv": ["false"], "display_name": "other", "language": "python"}))
        (folder / "voila.json").write_text(json.dumps({"Voila": {"ip": "0.0.0.0", "token": "", "base_url": "/other/"}}))
        (folder / "secret.png").write_bytes(b"private")
        own = {"OCCLAB_HOME": str(folder / "home"), "JUPYTER_PATH": str(folder), "OMP_NUM_THREADS": "1", "BROWSER": "false"}
        command = [sys.executable, "-m", "occlab", "workbench", "--profile", "tiny", *map(str, arguments)]
        self.log = folder / "log"
        with self.log.open("w") as stream:
            self.process = subprocess.Popen(
                command, cwd=folder, env={**os.environ, **own, **environment}, stdout=subprocess.PIPE, stderr=stream, text=True
            )
        self.line = self.cookie = ""

    def wait(self):
        """Until it says its address."""
        self.line = self.process.stdout.readline()
        said = re.search(r"http://127\.0\.0\.1:(\d+)/\?token=(\S+)", self.line)
        assert said, self.line + self.log.read_text()
        self.port, self.token = said.groups()

    def ask(self, path, method="GET", **headers):
        """Status, headers and the open answer."""
        line = http.client.HTTPConnection("127.0.0.1", int(self.port), timeout=60)
        line.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        return line.getresponse()

    def enter(self):
        """Bring the token; keep the cookie."""
        answer = self.ask(f"/?token={self.token}")
        assert (answer.status, answer.headers["Location"]) == (302, "/")
        given = SimpleCookie("; ".join(cookie.partition(";")[0] for cookie in answer.headers.get_all("Set-Cookie")))
        self.cookie = "; ".join(f"{name}={morsel.coded_value}" for name, morsel in given.items())

    def open_page(self):
        """The beginning of a page, up to the id of the kernel that was started for it."""
        answer = self.ask("/", Cookie=self.cookie)
        assert answer.status == 200
        said = ""
        while not (found := re.search(r'"kernelId": "([\w-]+)"', said)):
            more = answer.read1().decode()
            assert more, said
            said += more
        return found[1], said

    def listening(self):
        processes = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        return {c.laddr for p in processes for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN}

    def end(self):
        """Ctrl-C; exit code and what was printed."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            printed = self.process.communicate(timeout=60)[0]
        finally:
            self.process.kill()
        return self.process.returncode, self.line + printed, self.log.read_text()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    running = Served(tmp_path_factory.mktemp("served"), "--no-browser")
    try:
        running.wait()
        running.enter()
        yield running
    finally:
        running.end()


@pytest.fixture(scope="module")
def opened(served):
    return served.open_page()


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/?token=",
        "/?token=wrong",
        "/login",
        "/voila/static/voila.js",
        "/voila/templates/lab/static/voila-style.js",
        "/voila/labextensions/anywidget/package.json",
        "/voila/api/themes/@jupyterlab/theme-light-extension/index.css",
        "/voila/files/secret.png",
        "/api/kernels",
        "/no/such/page",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_nothing_answers_without_the_token(served, path, method):
    answer = served.ask(path, method)
    assert (answer.status, answer.read().decode()) == (403, SENTENCE)
    assert "Set-Cookie" not in answer.headers


def test_another_hosts_name_is_refused(served):
    """A stranger's name may be made to point here; the browser would bring it along."""
    for host in ("stranger.example", "127.0.0.1.stranger.example", f"stranger.example:{served.port}"):
        assert served.ask("/voila/static/voila.js", Cookie=served.cookie, Host=host).status == 403
        assert served.ask(f"/?token={served.token}", Host=host).status == 403
    name = f"localhost:{served.port}"
    assert served.ask("/voila/static/voila.js", Cookie=served.cookie, Host=name, Origin=f"http://{name}").status == 200


@pytest.mark.parametrize("origin", ["http://stranger.example", "http://127.0.0.1:1", "null"])
def test_another_page_of_the_browser_is_refused(served, origin):
    """It brings the cookie along: cookies know no ports."""
    assert served.ask("/", Cookie=served.cookie, Origin=origin).status == 403


def test_the_page_opens_with_the_token(opened):
    _, said = opened
    assert "<title>occlab workbench</title>" in said
    assert "occlab.workbench.serve" not in said, "the code is shown"
    assert re.findall(r'(?:src|href)="(?!/|data:)([^"]*)', said) == [], "another server is asked"


def test_it_listens_on_this_machine_only(served, opened):
    found = served.listening()
    assert ("127.0.0.1", int(served.port)) in found
    assert {address.ip for address in found} == {"127.0.0.1"}


def test_a_kernel_obeys_no_stranger(served, opened):
    kernel, _ = opened
    for method, path in [("GET", ""), ("DELETE", ""), ("POST", "/restart"), ("POST", "/interrupt"), ("GET", "/channels")]:
        assert served.ask(f"/api/kernels/{kernel}{path}", method).status == 403
    assert served.ask(f"/voila/api/shutdown/{kernel}", "POST").status == 403
    assert served.ask(f"/api/kernels/{kernel}", "DELETE", Cookie=served.cookie).status == 403, "without the page's own word"
    model = json.loads(served.ask(f"/api/kernels/{kernel}", Cookie=served.cookie).read())
    assert model["id"] == kernel


def test_its_messages_obey_no_stranger(served, opened):
    address = f"ws://127.0.0.1:{served.port}/api/kernels/{opened[0]}/channels"
    for headers in ({}, {"Cookie": served.cookie, "Origin": "http://127.0.0.1:1"}):
        with pytest.raises(InvalidStatus) as refused, connect(address, additional_headers=headers):
            pass
        assert refused.value.response.status_code == 403


def test_the_page_itself_may_not_send_code(served, opened, tmp_path):
    """What may be sent is what widgets send."""
    done = tmp_path / "done"

    def message(kind, content):
        header = {"msg_id": kind, "msg_type": kind, "session": "s", "username": "", "version": "5.3", "date": ""}
        return json.dumps(
            {"channel": "shell", "header": header, "parent_header": {}, "metadata": {}, "content": content, "buffers": []}
        )

    code = {"code": f"open({str(done)!r}, 'w')", "silent": False, "store_history": False, "allow_stdin": False}
    address = f"ws://127.0.0.1:{served.port}/api/kernels/{opened[0]}/channels"
    with connect(address, additional_headers={"Cookie": served.cookie}, max_size=None, open_timeout=120) as line:
        line.send(message("execute_request", code))
        line.send(message("kernel_info_request", {}))
        replies = []
        while "kernel_info_reply" not in replies:
            replies.append(json.loads(line.recv(timeout=120))["header"]["msg_type"])
    assert "execute_reply" not in replies
    assert not done.exists()


def test_a_kernel_that_was_killed_is_forgotten(served):
    kernel, _ = served.open_page()
    before = psutil.Process(served.process.pid).children()
    (killed,) = [child for child in before if any(kernel in word for word in child.cmdline())]
    killed.kill()
    until = time.monotonic() + 60
    while served.ask(f"/api/kernels/{kernel}", Cookie=served.cookie).status != 404:
        assert time.monotonic() < until
        time.sleep(0.2)
    assert killed not in psutil.Process(served.process.pid).children(), "a process is left over"


@pytest.fixture
def refused(capsys):
    """Type a command that must fail; return its one sentence."""

    def check(*arguments):
        with pytest.raises(SystemExit) as left:
            main(["workbench", "--no-browser", *map(str, arguments)])
        said = capsys.readouterr()
        assert (left.value.code, said.out) == (2, "")
        assert said.err.startswith("occlab: ")
        assert said.err.count("\n") == 1
        return said.err

    return check


@pytest.mark.parametrize(("port", "says"), [(None, "cannot be taken"), (65536, "from 1 to 65535"), (-1, "from 1 to 65535")])
def test_a_port_that_cannot_be_had_is_one_sentence(served, refused, port, says):
    port = port or served.port
    sentence = refused("--port", port)
    assert says in sentence
    assert str(port) in sentence


@pytest.mark.parametrize("module", ["voila", "anywidget"])
def test_a_missing_package_is_one_sentence(refused, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    assert re.search(rf"{module} could not be imported .*pip install 'occlab\[course\]'", refused())


def test_runs_in_a_file_are_one_sentence(refused, tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert str(tmp_path / "file") in refused("--runs", tmp_path / "file")


def test_ctrl_c_ends_it(served, opened):
    """With a page open; last in this file, as it ends the server of the others."""
    kernels = psutil.Process(served.process.pid).children(recursive=True)
    assert kernels
    code, printed, log = served.end()
    assert code == 0, log
    assert printed == served.line, "more than the address was printed"
    assert log == "occlab: the workbench has ended; every run is kept\n"
    assert not [kernel for kernel in kernels if kernel.is_running()]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(served.port)))


def test_the_browser_is_given_an_address_that_works_once(tmp_path):
    """Everybody on the machine can read a browser's command line."""
    script = tmp_path / "browser"
    script.write_text(f'#!/bin/sh\nprintf %s "$1" > {tmp_path}/part && mv {tmp_path}/part {tmp_path}/asked\n')
    script.chmod(0o755)
    runs = tmp_path / "new" / "runs"
    running = Served(tmp_path, "--runs", runs, BROWSER=f"{script} %s")
    try:
        running.wait()
        until = time.monotonic() + 60
        while not (tmp_path / "asked").exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        address = (tmp_path / "asked").read_text()
        assert address.startswith(f"http://127.0.0.1:{running.port}/?token=")
        assert running.token not in address
        query = address.partition(running.port)[2]
        assert [running.ask(query).status for _ in range(2)] == [302, 403]
        assert runs.is_dir()
    finally:
        code, _, log = running.end()
    assert code == 0, log


@pytest.mark.parametrize(("error", "says"), [(OcclabError("no <b> room"), "no &lt;b&gt; room"), (OSError("x"), "OSError: x")])
def test_a_workbench_that_cannot_be_made_says_why(monkeypatch, error, says):
    def fail(root):
        raise error

    monkeypatch.setitem(vars(occlab.workbench), "Workbench", fail)
    shown = page(None).data
    assert says in shown
    assert "Traceback" not in shown
