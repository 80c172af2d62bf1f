"""The key of a bucket's writers is one for all who share a Prefect API."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

from kinetic_flows.clients.prefect.store_key import load_store_key


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
