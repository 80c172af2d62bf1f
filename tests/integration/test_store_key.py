"""The key of a bucket's writers is one for all who share a Prefect API."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from kinetic_flows.clients.prefect.api import PrefectApi
from kinetic_flows.clients.prefect.secret_blocks import SecretBlocks
from kinetic_flows.clients.prefect.store_key import load_store_key
from kinetic_flows.core.artifact_store import StoreTrust
from kinetic_flows.core.compile_cache import entries_key
from kinetic_flows.core.job import COMPILE_CACHE_BLOCK_VARIABLE
from kinetic_flows.runs.compile_cache_keys import key_for_worker


def test_everyone_who_shares_an_api_and_a_bucket_has_one_key(
    prefect_api_url: str, tmp_path: Path
) -> None:
    bucket = f"bucket-{uuid4().hex}"

    def load(person: str) -> bytes | None:
        return load_store_key(bucket, prefect_api_url, tmp_path / person)

    with ThreadPoolExecutor(4) as pool:
        keys = set(pool.map(load, ["ann", "bob", "cyd", "dan"]))

    (key,) = keys
    assert key is not None
    assert len(key) == 32
    assert load_store_key(f"{bucket}-2", prefect_api_url, tmp_path / "ann") != key


def test_a_key_is_kept_for_its_user_alone_and_not_asked_for_again(
    prefect_api_url: str, tmp_path: Path
) -> None:
    bucket = f"bucket-{uuid4().hex}"
    key = load_store_key(bucket, prefect_api_url, tmp_path)

    (kept,) = (tmp_path / "keys").iterdir()
    assert kept.stat().st_mode & 0o077 == 0
    assert kept.read_text() == (key or b"").hex()
    # What is kept here is taken, whatever became of the block.
    kept.write_text("ab" * 32)
    assert load_store_key(bucket, prefect_api_url, tmp_path) == bytes.fromhex("ab" * 32)


def test_without_an_answer_there_is_no_key(tmp_path: Path) -> None:
    assert load_store_key("bucket", "http://127.0.0.1:9/api", tmp_path) is None
    assert not (tmp_path / "keys").exists()


class _Refuses(BaseHTTPRequestHandler):
    """A Prefect API that lets nobody read anything."""

    asked_for = 0

    def do_GET(self) -> None:
        _Refuses.asked_for += 1
        self.send_error(403)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def test_who_may_not_read_blocks_is_asked_for_once_in_a_process(tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Refuses)
    Thread(target=server.serve_forever).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/api"
        assert load_store_key("bucket", url, tmp_path) is None
        asked_for = _Refuses.asked_for
        assert asked_for
        assert load_store_key("bucket", url, tmp_path) is None
        assert _Refuses.asked_for == asked_for
    finally:
        server.shutdown()
        server.server_close()


def a_session(api: Any, bucket: str, home: Path) -> Any:
    trust = StoreTrust(key=load_store_key(bucket, api.url, home))
    store = SimpleNamespace(uri=f"gs://{bucket}")
    platform = SimpleNamespace(store=store, store_trust=lambda: trust)
    return SimpleNamespace(api=api, platform=platform, settings=SimpleNamespace(home=home))


def test_what_workers_start_finds_the_key_of_compiled_programs_in_a_block_and_not_the_stores(
    api: PrefectApi, tmp_path: Path
) -> None:
    bucket, template = f"bucket-{uuid4().hex}", SimpleNamespace(compile_cache=object())
    sessions = [a_session(api, bucket, tmp_path / person) for person in ("ann", "bob")]
    told: list[Any] = [key_for_worker([template], session) for session in sessions]  # type: ignore[list-item]

    assert told[0] == told[1]
    ((variable, block),) = told[0].items()
    assert variable == COMPILE_CACHE_BLOCK_VARIABLE
    key = sessions[0].platform.store_trust().key
    assert SecretBlocks(api).read(block) == entries_key(key) != key.hex()
    # Once it is there, nobody is asked.
    away = a_session(api, bucket, tmp_path / "ann")
    away.api = None
    assert key_for_worker([template], away) == told[0]  # type: ignore[list-item]
    assert key_for_worker([SimpleNamespace(compile_cache=None)], away) == {}  # type: ignore[list-item]
