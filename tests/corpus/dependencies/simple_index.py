"""A package index on loopback, full of tiny generated packages, with or without a login."""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import http.server
import io
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

BACKEND = """
import base64, hashlib, os, zipfile
NAME, VERSION, REQUIRES = {name!r}, {version!r}, {requires!r}

def _files():
    yield NAME + "/__init__.py", open(os.path.join(NAME, "__init__.py")).read()
    info = f"{{NAME}}-{{VERSION}}.dist-info"
    lines = ["Metadata-Version: 2.1", "Name: " + NAME, "Version: " + VERSION]
    lines += ["Requires-Dist: " + item for item in REQUIRES]
    yield info + "/METADATA", "\\n".join(lines) + "\\n"
    yield info + "/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: {tag}\\n"
    yield info + "/RECORD", ""

def get_requires_for_build_wheel(config_settings=None):
    return []

def build_wheel(directory, config_settings=None, metadata_directory=None):
    filename = f"{{NAME}}-{{VERSION}}-{tag}.whl"
    with zipfile.ZipFile(os.path.join(directory, filename), "w") as archive:
        for name, content in _files():
            archive.writestr(name, content)
    return filename
"""


def wheel(
    name: str,
    version: str,
    requires: Sequence[str] = (),
    *,
    tag: str = "py3-none-any",
    extras: dict[str, Sequence[str]] | None = None,
) -> tuple[str, bytes]:
    """Return the file name and bytes of a wheel."""
    module = name.lower().replace("-", "_").replace(".", "_")
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {item}" for item in requires]
    for extra, needs in (extras or {}).items():
        lines.append(f"Provides-Extra: {extra}")
        lines += [f'Requires-Dist: {item} ; extra == "{extra}"' for item in needs]
    info = f"{module}-{version}.dist-info"
    files = {
        f"{module}/__init__.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": "\n".join(lines) + "\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    record = "".join(f"{path},{_record(text)}\n" for path, text in files.items())
    files[f"{info}/RECORD"] = record + f"{info}/RECORD,,\n"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return f"{module}-{version}-{tag}.whl", out.getvalue()


def project_files(
    name: str, version: str, requires: Sequence[str] = (), *, tag: str = "py3-none-any"
) -> dict[str, str]:
    """Return the files of a source tree that builds without any package from anywhere."""
    listed = ", ".join(f'"{item}"' for item in requires)
    return {
        "pyproject.toml": (
            '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
            f'[project]\nname = "{name}"\nversion = "{version}"\ndependencies = [{listed}]\n'
        ),
        "backend.py": BACKEND.format(name=name, version=version, requires=list(requires), tag=tag),
        f"{name}/__init__.py": f"VERSION = {version!r}\n",
    }


def sdist(name: str, version: str, requires: Sequence[str] = ()) -> tuple[str, bytes]:
    """Return the file name and bytes of a source archive."""
    out = io.BytesIO()
    files = project_files(name, version, requires)
    files["PKG-INFO"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    with (
        gzip.GzipFile(fileobj=out, mode="wb", compresslevel=0, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for path, text in files.items():
            member = tarfile.TarInfo(f"{name}-{version}/{path}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return f"{name}-{version}.tar.gz", out.getvalue()


@dataclass
class SimpleIndex:
    """What an index serves, where, and to whom; `failures` answer its next files."""

    files: dict[str, dict[str, bytes]]
    login: tuple[str, str] | None = None
    port: int = 0
    max_age_seconds: int = 0
    requests: list[str] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/simple"

    def url_with_login(self) -> str:
        user, password = self.login or ("", "")
        return f"http://{user}:{password}@127.0.0.1:{self.port}/simple"


@contextmanager
def serve(
    packages: Sequence[tuple[str, bytes]],
    *,
    login: tuple[str, str] | None = None,
    max_age_seconds: int = 0,
) -> Iterator[SimpleIndex]:
    """Serve packages on a free port of loopback while the context lasts."""
    files: dict[str, dict[str, bytes]] = {}
    for filename, data in packages:
        name = filename.split("-")[0].lower().replace("_", "-").replace(".", "-")
        files.setdefault(name, {})[filename] = data
    index = SimpleIndex(files=files, login=login, max_age_seconds=max_age_seconds)
    server = _Server(index)
    index.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield index
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def serve_directory(directory: Path, *, login: tuple[str, str]) -> Iterator[str]:
    """Serve plain files to those who log in; yield the address."""
    index = SimpleIndex(files={}, login=login)
    server = _Server(index, functools.partial(_FileHandler, directory=str(directory)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(http.server.ThreadingHTTPServer):
    def __init__(self, index: SimpleIndex, handler: Callable[..., object] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), handler or _Handler)  # type: ignore[arg-type]
        self.index = index


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        index = self.server.index
        index.requests.append(self.path)
        parts = self.path.strip("/").split("/")
        if parts[0] == "files" and index.failures:
            self._answer(index.failures.pop(0), b"not now")
        elif not self._may_enter():
            self._answer(401, b"login", {"WWW-Authenticate": 'Basic realm="index"'})
        elif parts[0] == "simple" and len(parts) == 2 and parts[1] in index.files:
            self._answer(200, _page(index, parts[1]), {"Content-Type": "text/html"})
        elif parts[0] == "files" and len(parts) == 3 and parts[1] in index.files:
            self._answer(200, index.files[parts[1]][parts[2]])
        else:
            self._answer(404, b"not found")

    def do_HEAD(self) -> None:
        self._answer(405, b"")

    def log_message(self, *args: object) -> None:
        pass

    def _may_enter(self) -> bool:
        return _may_enter(self.server.index, self.headers.get("Authorization"))

    def _answer(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Cache-Control", f"max-age={self.server.index.max_age_seconds}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class _FileHandler(http.server.SimpleHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        if _may_enter(self.server.index, self.headers.get("Authorization")):
            super().do_GET()
            return
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="files"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def _may_enter(index: SimpleIndex, authorization: str | None) -> bool:
    if index.login is None:
        return True
    token = base64.b64encode(":".join(index.login).encode()).decode()
    return authorization == f"Basic {token}"


def _page(index: SimpleIndex, name: str) -> bytes:
    links = (
        f'<a href="/files/{name}/{filename}#sha256={hashlib.sha256(data).hexdigest()}">'
        f"{filename}</a>"
        for filename, data in index.files[name].items()
    )
    return f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>".encode()


def _record(text: str) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
    return f"sha256={digest},{len(text.encode())}"
