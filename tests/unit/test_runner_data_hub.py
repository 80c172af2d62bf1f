"""Data of the hub in a run: what it asks of the hub, and what it says when that refuses."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from kinetic_flows.runner_image.runner import data_draft, data_http
from kinetic_flows.runner_image.runner.contract import Fault
from kinetic_flows.runner_image.runner.data_listing import is_wanted

from kinetic_flows.code.data.patterns import Patterns
from kinetic_flows.core.job import EXIT_DATA_UNAVAILABLE, EXIT_OBJECT_REFUSED
from kinetic_flows.core.job_parts import DataSpec
from loopback.hub import HubServer, HubType, git_blob
from loopback.wire import Fault as Spoil
from stored_data import Bring, a_run

FILES = {
    "README.md": b"# A set\n",
    "data/train/part-0.txt": b"zero",
    "data/train/part-1.txt": b"one",
    "data/test-ü.txt": "tést".encode(),
    "data/a#b c.txt": b"odd",
    "weights.bin": bytes(range(256)) * 40,
}
LARGE = frozenset({"weights.bin"})


@pytest.fixture
def hub() -> Iterator[HubServer]:
    server = HubServer(page_size=2).start()
    yield server
    server.stop()


@pytest.fixture
def bring(tmp_path: Path) -> Iterator[Bring]:
    with a_run(tmp_path) as bring:
        yield bring


def spec_of(
    hub: HubServer,
    commit: str,
    files: Mapping[str, bytes] = FILES,
    *,
    kind: HubType = "dataset",
    repository: str = "owner/set",
    path: str = "",
    **fields: Any,
) -> DataSpec:
    """Return what a client finds out of some files of a commit."""
    listed = []
    for name, content in files.items():
        sha256 = hashlib.sha256(content).hexdigest()
        digest = sha256 if Path(name).name in {"weights.bin"} else f"git:{git_blob(content)}"
        listed.append((name.encode(), f"{len(content)}\0{digest}".encode()))
    lines = b"".join(b"%b\0%b\n" % line for line in sorted(listed))
    place = {
        "endpoint": hub.url,
        "type": kind,
        "repository": repository,
        "commit": commit,
        "path": path,
    }
    return DataSpec(
        **{
            "kind": "hub",
            "identity": hashlib.sha256(b"hub\n" + lines).hexdigest(),
            "source": f"hf://{kind}s/{repository}@{commit}",
            "name": "set",
            "place": place,
            "size_bytes": sum(map(len, files.values())),
            "files": len(files),
            **fields,
        }
    )


def contents(path: str) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in Path(path).rglob("*")
        if file.is_file()
    }


@pytest.mark.parametrize("kind", ["dataset", "model"])
def test_a_repository_is_brought_as_it_is_at_its_commit(
    hub: HubServer, bring: Bring, kind: HubType
) -> None:
    commit = hub.commit(kind, "owner/set", FILES, large=LARGE)
    hub.commit(kind, "owner/set", {"README.md": b"# Newer\n"})
    [path] = bring(spec_of(hub, commit, kind=kind))
    assert contents(path) == FILES


def test_a_directory_of_a_repository_is_brought(hub: HubServer, bring: Bring) -> None:
    commit = hub.commit("dataset", "owner/set", FILES, large=LARGE)
    files = {"part-0.txt": b"zero", "part-1.txt": b"one"}
    [path] = bring(spec_of(hub, commit, files, path="data/train", name="train"))
    assert contents(path) == files
    assert Path(path).name == "train"


def test_a_file_of_a_repository_is_brought(hub: HubServer, bring: Bring) -> None:
    commit = hub.commit("dataset", "owner/set", FILES, large=LARGE)
    files = {"weights.bin": FILES["weights.bin"]}
    [path] = bring(
        spec_of(hub, commit, files, path="weights.bin", name="weights.bin", is_file=True)
    )
    assert (Path(path).name, Path(path).read_bytes()) == ("weights.bin", FILES["weights.bin"])


def test_patterns_say_which_files_are_wanted(hub: HubServer, bring: Bring) -> None:
    commit = hub.commit("dataset", "owner/set", FILES, large=LARGE)
    wanted = {"data/train/part-1.txt": b"one"}
    spec = spec_of(hub, commit, wanted, include=("data/*",), exclude=("*0.txt", "*[ü#]*"))
    [path] = bring(spec)
    assert contents(path) == wanted


@pytest.mark.parametrize("path", ["a", "a/b", "a/b/c.txt", "b", "a.txt", "ab/c", "a/b.txt/c"])
@pytest.mark.parametrize("include", [None, ("a",), ("a/",), ("*.txt",), ("a/*/c*", "b"), ("[ab]",)])
@pytest.mark.parametrize("exclude", [(), ("a/b",), ("*c*",), ("b/", "*.txt")])
def test_both_sides_mean_the_same_by_patterns(path: str, include: Any, exclude: Any) -> None:
    told = {"include": include, "exclude": exclude}
    assert is_wanted(path, told) == Patterns(include, exclude).take(path)


def test_a_large_file_comes_in_slices(
    hub: HubServer, bring: Bring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_draft, "SLICE_BYTES", 1000)
    monkeypatch.setattr("kinetic_flows.runner_image.runner.data_sources.SLICE_BYTES", 1000)
    commit = hub.commit("model", "owner/set", FILES, large=LARGE)
    [path] = bring(spec_of(hub, commit, kind="model"))
    assert contents(path) == FILES


def test_the_token_opens_what_is_private_and_goes_to_the_hub_alone(
    hub: HubServer, bring: Bring
) -> None:
    """The other server, of large files, refuses requests with a token."""
    commit = hub.commit(
        "dataset", "owner/set", FILES, large=LARGE, readers=frozenset({"hf_reader"})
    )
    [path] = bring(spec_of(hub, commit), HF_TOKEN="hf_reader")
    assert contents(path) == FILES


def test_the_token_that_the_hubs_own_client_has_kept_is_used(
    hub: HubServer, bring: Bring, tmp_path: Path
) -> None:
    (tmp_path / ".cache/huggingface").mkdir(parents=True)
    (tmp_path / ".cache/huggingface/token").write_text("hf_reader\n")
    readers = frozenset({"hf_reader"})
    commit = hub.commit("dataset", "owner/set", FILES, large=LARGE, readers=readers)
    [path] = bring(spec_of(hub, commit), HOME=str(tmp_path))
    assert contents(path) == FILES


def test_a_mirror_that_the_run_names_is_asked(hub: HubServer, bring: Bring) -> None:
    commit = hub.commit("dataset", "owner/set", FILES, large=LARGE)
    spec = spec_of(hub, commit)
    elsewhere = {**spec.place, "endpoint": "https://hub.invalid"}
    [path] = bring(DataSpec(**{**vars(spec), "place": elsewhere}), HF_ENDPOINT=hub.url)
    assert contents(path) == FILES


def test_a_mirror_that_names_the_hub_for_further_pages_is_asked_itself(
    hub: HubServer, bring: Bring
) -> None:
    spec = spec_of(hub, hub.commit("dataset", "owner/set", FILES, large=LARGE))
    hub.url = "https://hub.invalid"
    [path] = bring(spec)
    assert contents(path) == FILES


@pytest.mark.parametrize(
    ("gated", "token", "said"),
    [
        (False, "", r"says: Invalid username or password\. \(is it private, gated, or not there"),
        (False, "hf_other", r"says: Repository not found \(HF_TOKEN is set: may its owner read"),
        (True, "", r"says: Access to dataset owner/set is restricted\. .*secrets={'HF_TOKEN': "),
        (True, "hf_other", r"is restricted and you are not in .* \(ask for access on its page"),
        (True, "hf_unknown", r"says: Invalid credentials in Authorization header"),
    ],
)
def test_what_one_may_not_read_is_named_and_what_to_do(
    hub: HubServer, bring: Bring, gated: bool, token: str, said: str
) -> None:
    readers = frozenset({"hf_reader"})
    commit = hub.commit("dataset", "owner/set", FILES, large=LARGE, readers=readers, gated=gated)
    with pytest.raises(Fault, match=said) as caught:
        bring(spec_of(hub, commit), HF_TOKEN=token)
    assert caught.value.message.startswith("hf://datasets/owner/set@")
    assert "hf_" not in caught.value.message


def test_a_commit_that_is_gone_is_named(hub: HubServer, bring: Bring) -> None:
    hub.commit("dataset", "owner/set", FILES)
    with pytest.raises(Fault, match=f"says: Invalid rev id: {'0' * 40}") as caught:
        bring(spec_of(hub, "0" * 40))
    assert caught.value.exit_code == EXIT_DATA_UNAVAILABLE


def test_another_listing_than_was_planned_is_refused(hub: HubServer, bring: Bring) -> None:
    commit = hub.commit("dataset", "owner/set", FILES, large=LARGE)
    with pytest.raises(Fault, match="is not what it was when the run was planned") as caught:
        bring(spec_of(hub, commit, identity="1" * 64))
    assert caught.value.exit_code == EXIT_OBJECT_REFUSED


@pytest.mark.parametrize(
    ("name", "digest"), [("weights.bin", "SHA-256"), ("README.md", "SHA-1 as a git blob")]
)
def test_a_file_with_another_digest_is_refused_by_name(
    hub: HubServer, bring: Bring, tmp_path: Path, name: str, digest: str
) -> None:
    commit = hub.commit("dataset", "owner/set", FILES, large=LARGE)
    server = hub.network if name == "weights.bin" else hub.wire
    path = "/objects/" if name == "weights.bin" else "/resolve-cache/"
    with (
        server.fault(Spoil(kind="alter", times=100, path=path)),
        pytest.raises(Fault, match=rf"\S+ of hf://datasets/owner/set@\w+ is refused: its {digest}"),
    ):
        bring(spec_of(hub, commit), KINETIC_DATA_CACHE=str(tmp_path / "cache"))
    assert not list((tmp_path / "cache").glob("*/whole"))
    [path] = bring(spec_of(hub, commit), KINETIC_DATA_CACHE=str(tmp_path / "cache"))
    assert contents(path) == FILES


@pytest.mark.parametrize("kind", ["truncate", "reset"])
def test_what_breaks_off_goes_on(hub: HubServer, bring: Bring, kind: Any) -> None:
    commit = hub.commit("dataset", "owner/set", FILES, large=LARGE)
    with hub.network.fault(Spoil(kind=kind)) as spoiled:
        [path] = bring(spec_of(hub, commit))
    assert spoiled.times == 0
    assert contents(path) == FILES


@pytest.mark.parametrize("path", ["/tree/", "/resolve/"])
def test_a_hub_that_is_asked_too_often_is_asked_again(
    hub: HubServer, bring: Bring, path: str
) -> None:
    commit = hub.commit("dataset", "owner/set", FILES, large=LARGE)
    with hub.too_many(2, 0, path) as limit:
        [copy] = bring(spec_of(hub, commit))
    assert limit.times == 0
    assert contents(copy) == FILES


def test_a_hub_that_is_down_for_a_while_is_waited_for(
    hub: HubServer, bring: Bring, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = [data_http.FIRST_PAUSE_SECONDS * 2**number for number in range(data_http.TRIES - 1)]
    assert 60 < sum(pauses) < 180
    monkeypatch.setattr(data_http, "FIRST_PAUSE_SECONDS", 0.001)
    commit = hub.commit("dataset", "owner/set", FILES, large=LARGE)
    with hub.wire.fault(Spoil(kind="status", status=503, times=len(pauses))) as down:
        [path] = bring(spec_of(hub, commit))
    assert down.times == 0
    assert contents(path) == FILES


def test_how_long_a_server_asks_to_wait_is_understood() -> None:
    from email.message import Message

    asked = {}
    for name, value in (("Retry-After", "7"), ("RateLimit", '"api";r=0;t=55'), ("Date", "now")):
        headers = Message()
        headers[name] = value
        asked[name] = data_http._asked_pause(headers)
    assert asked == {"Retry-After": 7.0, "RateLimit": 55.0, "Date": None}


def test_without_a_network_the_hub_is_named(bring: Bring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_http, "TRIES", 1)
    place = {"endpoint": "http://127.0.0.1:9", "type": "model", "repository": "o/m"}
    spec = DataSpec(
        kind="hub",
        identity="1" * 64,
        source="hf://models/o/m",
        name="m",
        place={**place, "commit": "0" * 40, "path": ""},
    )
    with pytest.raises(Fault, match=r"hf://models/o/m cannot be fetched: 127.0.0.1:9 does not "):
        bring(spec)


def test_what_is_in_the_cache_needs_no_network(tmp_path: Path) -> None:
    hub = HubServer().start()
    commit = hub.commit("dataset", "owner/set", FILES, large=LARGE)
    spec = spec_of(hub, commit)
    cache = {"KINETIC_DATA_CACHE": str(tmp_path / "cache")}
    with a_run(tmp_path) as bring:
        first = bring(spec, **cache)
    hub.stop()
    with a_run(tmp_path) as bring:
        assert bring(spec, **cache) == first
    assert contents(first[0]) == FILES
    assert os.environ.get("HF_ENDPOINT") is None
