"""The server under ``occlab workbench``: Voila behind a door that only the token opens.

Voila asks for its token where it runs code, and hands out its scripts, styles and log-in form to anybody, under any host
name. The door stands before all of it.
"""

import hmac
import logging
import secrets
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_server.auth.decorator import allow_unauthenticated
from jupyter_server.base.handlers import JupyterHandler
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPMessageDelegate, HTTPServerRequest
from tornado.ioloop import IOLoop, PeriodicCallback
from tornado.netutil import bind_sockets
from tornado.routing import Router
from tornado.web import Application, HTTPError, RequestHandler, decode_signed_value
from traitlets import default
from traitlets.config import Config
from voila.app import Voila

from ..errors import OcclabError

ADDRESS = "127.0.0.1"
HOSTS = (ADDRESS, "localhost")
"""Names under which a browser may ask; any other one is a stranger's name that was made to point here."""

LEFT_FOR = 60.0
"""Seconds after which a kernel ends whose page is gone without a word: a browser that was killed, a tab put to sleep."""
STARTING_FOR = 600.0
"""Seconds for a page to come up before it counts as gone."""

EXTENSIONS = ["@voila-dashboards/widgets-manager8", "@jupyter-widgets/jupyterlab-manager", "anywidget", "jupyterlab-plotly"]
"""What the page loads of JupyterLab's installed extensions: what draws widgets and figures, and nothing else."""

# Everything a page asks for comes from this server: a tag that slipped in could load nothing and send nothing elsewhere.
CONTENT = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "connect-src 'self' data: blob:; frame-ancestors 'self'; form-action 'none'; object-src 'none'"
)


class Refusal(RequestHandler):
    """Answers everything with one sentence and 403."""

    def prepare(self) -> None:
        self.set_status(403)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish("This page opens with the address that occlab workbench printed, with its token.\n")


class Entry(JupyterHandler):
    """Takes the token out of the address bar: from here on a cookie speaks for the browser."""

    @allow_unauthenticated  # the door has seen the token
    def get(self) -> None:
        provider = self.identity_provider
        provider.set_login_cookie(self, provider.generate_anonymous_user(self))
        _ = self.xsrf_token  # reading it sets the cookie with which a page tells that it was closed
        self.set_header("Cache-Control", "no-store")
        self.redirect("/")


class Door(Router):
    """Before every request: is it meant for this host, and does it bring the token, or the cookie given for it?

    Args:
        token: opens the door at ``/?token=``, as often as it comes.
    """

    def __init__(self, app: Application, token: str) -> None:
        self.app, self.token = app, token
        self.ticket = secrets.token_urlsafe(32)
        """Opens the door once in place of the token: a browser's command line can be read by everybody on the machine."""

    def find_handler(self, request: HTTPServerRequest, **_: Any) -> HTTPMessageDelegate:
        origin = request.headers.get("Origin")  # of the page that asks, where that is not a link's or a typed address
        if request.host_name not in HOSTS or (origin and urlsplit(origin).netloc != request.host):
            return self.app.get_handler_delegate(request, Refusal)
        if request.path == "/" and request.method == "GET" and self._is_key(request.query_arguments.get("token")):
            return self.app.get_handler_delegate(request, Entry)
        if self._was_let_in(request):
            return self.app.find_handler(request)
        return self.app.get_handler_delegate(request, Refusal)

    def _is_key(self, given: list[bytes] | None) -> bool:
        key = given[-1] if given else b""
        if self.ticket and hmac.compare_digest(key, self.ticket.encode()):
            self.ticket = ""
            return True
        return hmac.compare_digest(key, self.token.encode())

    def _was_let_in(self, request: HTTPServerRequest) -> bool:
        settings = self.app.settings
        name = settings["identity_provider"].cookie_name
        cookie = request.cookies.get(name)
        return cookie is not None and decode_signed_value(settings["cookie_secret"], name, cookie.value) is not None


class OwnKernel(KernelSpecManager):
    """Knows the kernel of this Python, and no other that is called python3; it leaves the terminal to the workbench."""

    @default("kernel_dirs")
    def _none(self) -> list[str]:
        return []

    def get_kernel_spec(self, name: str) -> KernelSpec:
        spec = super().get_kernel_spec(name)
        spec.argv = [*spec.argv, "--log-level=CRITICAL"]
        return spec


class Server(Voila):
    """Voila for one notebook, until it is interrupted or terminated.

    Args:
        notebook: the notebook that every page runs in a kernel of its own.
        template: a folder with ``page.html.j2``.
        theme: light or dark.
        folder: the kernels' working folder.
    """

    def __init__(self, notebook: Path, template: Path, *, theme: str, folder: Path, **rest: Any) -> None:
        silent = {"log_level": logging.ERROR, "config_file_paths": []}  # the work folder's voila.json is nobody's word
        super().__init__(notebook_path=str(notebook), open_browser=False, **silent, **rest)
        self.token = secrets.token_urlsafe(32)
        self._template = template
        self._seen: dict[str, tuple[float, bool]] = {}
        """Of each kernel: when a page was last there, and whether one ever was."""
        self.config = Config(
            {
                "VoilaConfiguration": {
                    "theme": theme,
                    "allow_theme_override": "NO",
                    "allow_template_override": "NO",
                    "file_allowlist": [],
                    "extension_allowlist": EXTENSIONS,
                    "kernel_spec_manager_class": OwnKernel,
                },
                "VoilaExporter": {"template_file": "page.html.j2"},
                "MappingKernelManager": {"root_dir": str(folder)},
                # A kernel that died is not started again: a new one would know nothing of the page's widgets.
                "KernelManager": {"autorestart": False, "transport_encryption": "auto"},
                "IdentityProvider": {"cookie_name": "occlab-workbench", "cookie_options": {"samesite": "Lax"}},
            }
        )
        self.tornado_settings = {"headers": {"Content-Security-Policy": CONTENT}, "allow_remote_access": False}

    def setup_template_dirs(self) -> None:
        super().setup_template_dirs()
        self.template_paths.insert(0, str(self._template))

    def open(self, port: int) -> None:
        """Take a port of the loopback address; 0 takes a free one.

        Raises:
            OcclabError: no such port, another program has it, or only the system's administrator may take it.
        """
        if not 0 <= port < 2**16:
            raise OcclabError(f"expected --port from 1 to 65535, or 0 for a free one, got {port}")
        try:
            self._sockets = bind_sockets(port, ADDRESS)
        except OSError as error:
            raise OcclabError(
                f"port {port} cannot be taken ({error.strerror}); name another --port, or none for a free one"
            ) from error
        self.port = self._sockets[0].getsockname()[1]
        self.config.IdentityProvider.cookie_name = f"occlab-workbench-{self.port}"  # cookies know no ports

    def run(self, ready: Callable[[str, str], Any]) -> None:
        """Serve.

        Args:
            ready: called with the address for people, and with one that works once.
        """
        self._ready = ready
        self.initialize([])
        signal.signal(signal.SIGINT, self._handle_signal_stop)
        logging.getLogger("tornado").setLevel(logging.ERROR)  # a request that is refused is no news
        self.start()

    def listen(self) -> None:
        door = Door(self.app, self.token)
        HTTPServer(door).add_sockets(self._sockets)
        self.ioloop = IOLoop.current()
        PeriodicCallback(self._end_left_kernels, 2_000).start()
        base = f"http://{ADDRESS}:{self.port}/?token="
        self.ioloop.add_callback(self._ready, base + self.token, base + door.ticket)
        try:
            self.ioloop.start()
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C waits for nothing
            self.stop()

    async def _end_left_kernels(self) -> None:
        """End the kernels whose page is gone, and forget those that died: the page asks, and says so."""
        now, seen = time.monotonic(), {}
        for model in self.kernel_manager.list_kernels():
            kernel, connected = model["id"], model["connections"] > 0
            last, ever = self._seen.get(kernel, (now, False))
            left = not connected and now - last > (LEFT_FOR if ever else STARTING_FOR)
            with suppress(KeyError, HTTPError):  # the page has ended it meanwhile
                if left or not await self.kernel_manager.get_kernel(kernel).is_alive():
                    await self.kernel_manager.shutdown_kernel(kernel)
                else:
                    seen[kernel] = (now if connected else last, ever or connected)
        self._seen = seen
