"""Handing the job's wheels to uv while they arrive, so that it unpacks some and others come.

uv asks this process for them, over the loopback interface and under a name that only it is told.
Nothing is written but what uv unpacks: a wheel never takes room as a file.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote

from .fetching import PARALLEL, Ref, Store, pass_on

HOST = "127.0.0.1"
POLL_SECONDS = 0.02
PATIENCE_SECONDS = 600
"""How long uv waits for the next bytes: the store's client may bring a whole wheel at once."""


class Wheels(ThreadingHTTPServer):
    """Serves wheels of a store, each checked against its digest as it goes by.

    Args:
        store: Where the wheels are.
        refs: Their names there, digests and sizes.

    Attributes:
        errors: What went wrong with the store or with a wheel.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, store: Store, refs: Sequence[Ref]) -> None:
        super().__init__((HOST, 0), _Request)
        self.store = store
        self.refs = {os.path.basename(ref["name"]): ref for ref in refs}
        self.errors: list[Exception] = []
        self.root = f"/{os.urandom(16).hex()}/"

    @property
    def url(self) -> str:
        """Address of the list of wheels, for uv's `--find-links`."""
        return f"http://{HOST}:{self.server_port}{self.root}"

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the variables with which uv asks here: past any proxy, a few wheels at once."""
        direct = environ.get("NO_PROXY") or environ.get("no_proxy")
        return {
            "UV_CONCURRENT_DOWNLOADS": str(PARALLEL),
            "UV_HTTP_TIMEOUT": str(PATIENCE_SECONDS),
            **environ,
            "NO_PROXY": f"{direct},{HOST}" if direct else HOST,
        }


@contextmanager
def serving(store: Store, refs: Sequence[Ref]) -> Iterator[Wheels]:
    """Serve wheels inside a `with` block.

    Raises:
        Fault: The block failed after a wheel could not be fetched or was refused; that is why.
    """
    with Wheels(store, refs) as server:
        thread = threading.Thread(target=server.serve_forever, args=(POLL_SECONDS,), daemon=True)
        thread.start()
        try:
            yield server
        except Exception as error:
            if server.errors:
                raise server.errors[0] from error
            raise
        finally:
            server.shutdown()


class _Request(BaseHTTPRequestHandler):
    server: Wheels

    def do_GET(self) -> None:
        """Answer with a wheel, or with the list of wheels."""
        root, refs = self.server.root, self.server.refs
        name = unquote(self.path.removeprefix(root))
        if self.path == root:
            page = "".join(f'<a href="{quote(name)}">{name}</a>\n' for name in refs).encode()
            self._begin(len(page), "text/html")
            self.wfile.write(page)
        elif self.path.startswith(root) and name in refs and not self.server.errors:
            self._pass_on(refs[name])
        else:
            self.send_error(404)

    def _pass_on(self, ref: Ref) -> None:
        self._begin(ref["size_bytes"], "application/octet-stream")
        try:
            pass_on(self.server.store, ref, self.wfile)
        except ConnectionError:
            # uv went away. Should the store have done so, uv says what it lacks.
            return
        except Exception as error:  # noqa: BLE001 - raised again where uv is waited for
            self.server.errors.append(error)

    def _begin(self, size_bytes: int, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(size_bytes))
        self.end_headers()

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing: uv tells what it installs."""
