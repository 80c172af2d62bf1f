"""Wheels that the runner hands to uv: only to uv, and whole only when they are right."""

from __future__ import annotations

from hashlib import sha256
from http.client import IncompleteRead
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest
from kinetic_flows.runner_image.runner.contract import Fault
from kinetic_flows.runner_image.runner.serving import serving
from kinetic_flows.runner_image.runner.stores import DirectoryStore

NAME = "paint-1.0+blue-py3-none-any.whl"
CONTENT = bytes(range(256)) * 16384
"""More than one piece."""


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    (tmp_path / NAME).write_bytes(CONTENT)
    return DirectoryStore(str(tmp_path))


def _ref(content: bytes = CONTENT) -> dict[str, Any]:
    return {"name": NAME, "sha256": sha256(content).hexdigest(), "size_bytes": len(content)}


def test_a_wheel_is_listed_and_arrives(store: DirectoryStore) -> None:
    with serving(store, [_ref()]) as wheels:
        page = urlopen(wheels.url).read().decode()
        assert page == f'<a href="paint-1.0%2Bblue-py3-none-any.whl">{NAME}</a>\n'
        assert urlopen(wheels.url + "paint-1.0%2Bblue-py3-none-any.whl").read() == CONTENT


def test_whoever_was_not_told_the_address_gets_nothing(store: DirectoryStore) -> None:
    with serving(store, [_ref()]) as wheels:
        server = wheels.url.removesuffix(wheels.root)
        for path in ("/", f"/{NAME}", f"/{'0' * 32}/{NAME}", f"{wheels.root}../{NAME}"):
            with pytest.raises(HTTPError, match="404"):
                urlopen(server + path)


def _ask_twice(store: DirectoryStore, ref: dict[str, Any]) -> None:
    """Ask for a wheel as uv does: again when the connection broke, and then give up."""
    with serving(store, [ref]) as wheels:
        with pytest.raises(IncompleteRead):
            urlopen(wheels.url + NAME).read()
        urlopen(wheels.url + NAME)


def test_a_wheel_of_another_content_never_arrives_whole(store: DirectoryStore) -> None:
    with pytest.raises(Fault, match="is refused: its SHA-256 is") as caught:
        _ask_twice(store, _ref(CONTENT[:-1] + b"!"))
    assert isinstance(caught.value.__cause__, HTTPError)
    assert caught.value.__cause__.code == 404


def test_nothing_is_served_afterwards(store: DirectoryStore) -> None:
    with serving(store, [_ref()]) as wheels:
        pass
    with pytest.raises(URLError, match="refused"):
        urlopen(wheels.url)


def test_uv_is_sent_past_the_proxy_and_keeps_what_is_set(store: DirectoryStore) -> None:
    with serving(store, [_ref()]) as wheels:
        found = wheels.environment({"no_proxy": "a.example", "UV_HTTP_TIMEOUT": "5"})
    assert found["NO_PROXY"] == "a.example,127.0.0.1"
    assert found["UV_HTTP_TIMEOUT"] == "5"
    assert found["UV_CONCURRENT_DOWNLOADS"] == "8"
