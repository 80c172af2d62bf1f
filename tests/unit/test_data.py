"""`kinetic.Data` says where something is, and refuses what cannot be before anything is done."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path

import pytest

import kinetic
from kinetic_flows.core.data import Data
from kinetic_flows.core.errors import UsageError

SHA256 = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("source", "kind", "name"),
    [
        ("data", "local", "data"),
        ("img@2x.png", "local", "img@2x.png"),
        ("gs://bucket", "bucket", "bucket"),
        ("gs://bucket/a/b/", "bucket", "b"),
        ("hf://datasets/owner/name", "hub", "name"),
        ("hf://datasets/owner/name@v1", "hub", "name"),
        ("hf://models/owner/name@v1/weights/a.bin", "hub", "a.bin"),
        ("hf://models/gpt2", "hub", "gpt2"),
    ],
)
def test_a_source_says_what_it_is_and_how_it_is_called(source: str, kind: str, name: str) -> None:
    data = Data(source)
    assert (data.kind, data.name) == (kind, name)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://example.com/a%20b.csv?download=1#top", "a b.csv"),
        ("https://example.com/", "example.com"),
        ("https://example.com/x/..", "data"),
        ("https://example.com/%2e%2e", "data"),
        ("https://example.com/a%2F..%2Fpasswd", "passwd"),
    ],
)
def test_a_web_address_gives_a_name_that_is_one(url: str, name: str) -> None:
    assert Data(url, sha256=SHA256).name == name


def test_a_local_source_is_absolute_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    data = Data("files")
    monkeypatch.chdir("/")
    assert data.source == str(tmp_path / "inside" / "files")


def test_a_local_source_with_dots_is_what_they_lead_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    data = Data("..")
    assert (data.source, data.name) == (os.path.realpath(tmp_path), tmp_path.name)


@pytest.mark.parametrize(
    ("source", "revision", "found"),
    [
        ("hf://datasets/o/n", None, ("dataset", "o/n", "main", "")),
        ("hf://models/o/n@v2/dir/file", None, ("model", "o/n", "v2", "dir/file")),
        (
            "hf://datasets/o/n@refs/convert/parquet",
            None,
            ("dataset", "o/n", "refs/convert/parquet", ""),
        ),
        ("hf://datasets/o/n@refs/pr/3/dir", None, ("dataset", "o/n", "refs/pr/3", "dir")),
        ("hf://datasets/o/n/dir", "feature/x", ("dataset", "o/n", "feature/x", "dir")),
    ],
)
def test_a_hub_source_names_repository_revision_and_path(
    source: str, revision: str | None, found: tuple[str, ...]
) -> None:
    assert Data(source, revision=revision).hub() == found


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"source": ""}, "source is ''"),
        ({"source": 7}, "source is 7"),
        ({"source": b"/data"}, "source is b'/data'"),
        ({"source": "s3://bucket/x"}, "gs://, hf:// or https://"),
        ({"source": "gs:/bucket"}, "two slashes"),
        ({"source": "gs://B/x"}, "no place in Cloud Storage"),
        ({"source": "hf://spaces/o/n"}, "no repository of the hub"),
        ({"source": "hf://o/n"}, "instead of hf://o/n"),
        ({"source": "hf://datasets/o/n@a", "revision": "b"}, "revision='b' besides"),
        ({"source": "https://x.org/f"}, "without a digest"),
        ({"source": "http://x.org/f", "sha256": SHA256}, "not encrypted"),
        ({"source": "https://x.org/f", "sha256": "abc"}, "64 hexadecimal digits"),
        ({"source": "data", "sha256": SHA256}, "sha256 is for https://"),
        ({"source": "data", "revision": "main"}, "revision is for hf://"),
        ({"source": "data", "mode": "mount"}, "only Cloud Storage can be mounted"),
        ({"source": "gs://bucket", "mode": "mount", "in_memory": True}, "is no copy"),
        ({"source": "gs://bucket", "mode": "mount", "include": ["*"]}, "include and exclude"),
        ({"source": "gs://bucket/a,b", "mode": "mount"}, "no comma or colon"),
        ({"source": "gs://bucket/2026-01-01T10:00", "mode": "mount"}, "no comma or colon"),
        ({"source": "gs://bucket", "read_only": False}, "mode='mount' as well"),
        ({"source": "data", "mode": "link"}, "mode is 'link'"),
        ({"source": "data", "include": "*.csv"}, "include is '*.csv'"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_write(
    options: dict[str, object], told: str
) -> None:
    with pytest.raises(UsageError) as refused:
        Data(**options)  # type: ignore[arg-type]
    assert told in str(refused.value)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError) as refused:
        Data("https://me:hunter2@example.com/f", sha256=SHA256)
    assert "hunter2" not in f"{refused.value} {refused.value.value}"


def test_a_signature_in_an_address_is_not_shown() -> None:
    data = Data("https://example.com/f.csv?X-Signature=hunter2", sha256=SHA256)
    assert "hunter2" not in repr(data)
    assert "hunter2" not in data.shown_source
    assert data.source.endswith("hunter2")


def test_equal_data_is_one_key_and_survives_copies_and_pickles() -> None:
    data = Data("hf://datasets/o/n", revision="v1", include=["*.csv"], in_memory=True)
    assert {data, copy.deepcopy(data), pickle.loads(pickle.dumps(data))} == {data}
    assert data != Data("hf://datasets/o/n", revision="v1")


def test_what_it_says_of_itself_makes_it_again() -> None:
    data = Data("gs://bucket/x", mode="mount", read_only=False)
    assert eval(repr(data), {"kinetic": kinetic}) == data


def test_it_is_no_path_where_it_is_made() -> None:
    with pytest.raises(UsageError, match="no path here"):
        Path(Data("data"))  # type: ignore[arg-type]
