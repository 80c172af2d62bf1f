"""Where compiled programs are kept, who has the key to them, and which of them go."""

from __future__ import annotations

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kinetic_flows.cli.main import main
from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.core.artifact_store import StoreTrust
from kinetic_flows.core.compile_cache import entries_key
from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.core.job import COMPILE_CACHE_KEY_VARIABLE, sha256_hex
from kinetic_flows.core.job_parts import (
    CompileCacheSpec,
    ObjectRef,
    PackagesSpec,
    RequirementsSpec,
)
from kinetic_flows.plans.compile_cache import compile_cache_spec, environment_digest
from kinetic_flows.platforms.local.store import LocalStore
from kinetic_flows.runs.compile_cache import stored_programs, unused_programs
from kinetic_flows.runs.compile_cache_keys import key_for_process

IMAGE = ResolvedImage(reference="app@sha256:1", digest="sha256:1", labels={})
LOCK = RequirementsSpec(lock=ObjectRef(name="lock", sha256=sha256_hex(b"a lock"), size_bytes=6))
HERE, CLUSTER = StoreTrust(is_private=True), StoreTrust(key=b"k" * 32)
NOW = datetime.now(UTC)


def prefix(
    accelerator: str, *, hosts: int | None = None, slices: int = 1, environment: str = "e"
) -> str:
    named = parse_accelerator(accelerator).times(slices=slices)
    spec = compile_cache_spec(True, named, environment, hosts=hosts or named.hosts, is_here=False)
    assert spec is not None
    return spec.prefix


# Where


@pytest.mark.parametrize(
    ("asked", "accelerator", "is_here", "is_kept"),
    [
        (None, "tpu-v6e-8", False, True),
        (None, "l4x2", False, True),
        (None, "cpu", False, False),
        (None, "tpu-v6e-8", True, False),  # which is this machine's CPU
        (True, "cpu", True, True),
        (False, "tpu-v6e-8", False, False),
    ],
)
def test_programs_for_tpus_and_gpus_are_kept_unless_the_option_says_otherwise(
    asked: bool | None, accelerator: str, is_here: bool, is_kept: bool
) -> None:
    named = parse_accelerator(accelerator)
    spec = compile_cache_spec(asked, named, "e", hosts=1, is_here=is_here)
    assert (spec is not None) == is_kept


def test_gpus_of_several_hosts_keep_none_as_they_compile_together() -> None:
    gpus = parse_accelerator("h100x8")
    assert compile_cache_spec(True, gpus, "e", hosts=2, is_here=False) is None
    assert compile_cache_spec(None, gpus, "e", hosts=1, is_here=False) is not None


def test_each_arrangement_of_chips_has_programs_of_its_own() -> None:
    assert prefix("tpu-v6e-8") == "compile-cache/e/tpu-v6e-8-2x4/"
    assert prefix("tpu-v5p-2x2x2") == "compile-cache/e/tpu-v5p-2x2x2-2x2x2-2-hosts/"
    assert prefix("tpu-v5p-2x2x2", slices=2).endswith("2x2x2-4-hosts-2-slices/")
    assert prefix("l4x2") == "compile-cache/e/l4x2/"
    assert prefix("cpu", hosts=2) == "compile-cache/e/cpu-2-hosts/"


def test_spot_vms_share_programs_with_others() -> None:
    assert prefix("tpu-v6e-8:spot") == prefix("tpu-v6e-8")


def test_whatever_changes_the_packages_changes_the_place() -> None:
    mounted = PackagesSpec(image="packages@sha256:2", identity="i")
    digests = [
        environment_digest(IMAGE, "3.11", None, None),
        environment_digest(replace(IMAGE, digest="sha256:2"), "3.11", None, None),
        environment_digest(IMAGE, "3.12", None, None),
        environment_digest(IMAGE, "3.11", LOCK, None),
        environment_digest(IMAGE, "3.11", None, mounted),
    ]
    assert len(set(digests)) == len(digests)
    assert environment_digest(replace(IMAGE, reference="other"), "3.11", None, None) == digests[0]


# The key


def kept(trust: StoreTrust, home: Path) -> dict[str, str]:
    template: Any = SimpleNamespace(compile_cache=CompileCacheSpec(prefix="p/", max_bytes=1))
    platform: Any = SimpleNamespace(store_trust=lambda: trust)
    return key_for_process(template, platform, home)


def test_runs_of_a_cluster_have_a_key_that_tells_nothing_of_the_stores(tmp_path: Path) -> None:
    key = kept(CLUSTER, tmp_path)[COMPILE_CACHE_KEY_VARIABLE]
    assert key == entries_key(b"k" * 32)
    assert key != (b"k" * 32).hex()
    assert list(tmp_path.iterdir()) == []


def test_this_machine_has_one_key_of_its_own_however_many_runs_begin_at_once(
    tmp_path: Path,
) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: kept(HERE, tmp_path)[COMPILE_CACHE_KEY_VARIABLE], range(32)))
    (key,) = keys
    file = tmp_path / "keys" / "compile-cache"
    assert entries_key(bytes.fromhex(file.read_text())) == key
    assert file.stat().st_mode & 0o777 == 0o600


def test_who_does_not_know_the_stores_key_has_no_programs(tmp_path: Path) -> None:
    assert kept(StoreTrust(), tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_keeps_no_programs_asks_for_no_key(tmp_path: Path) -> None:
    template: Any = SimpleNamespace(compile_cache=None)
    platform: Any = SimpleNamespace(store_trust=pytest.fail)
    assert key_for_process(template, platform, tmp_path) == {}


# Those that go


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalStore:
    """This machine's, with programs of two accelerators, used 1 to 40 days ago."""
    monkeypatch.setenv("KINETIC_PLATFORM", "local")
    monkeypatch.setenv("KINETIC_HOME", str(tmp_path))
    made = LocalStore(tmp_path / "store")
    for name, days, size in (
        ("aa/tpu-v6e-8-2x4/0/jit_step-1-cache", 1, 300),
        ("aa/tpu-v6e-8-2x4/1/jit_step-1-cache", 3, 300),
        ("aa/tpu-v6e-8-2x4/0/jit_init-2-cache", 40, 300),
        ("bb/l4/0/xla_gpu_per_fusion_autotune_cache_dir/tried", 20, 1000),
    ):
        made.put_if_absent(f"compile-cache/{name}", b"x" * size)
        moment = (NOW - timedelta(days=days)).timestamp()
        os.utime(tmp_path / "store" / "compile-cache" / name, (moment, moment))
    made.put_if_absent("runs/1/job.json", b"{}")
    return made


def command(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return int(ended.value.code or 0)


def left(store: LocalStore) -> list[str]:
    return [info.name.removeprefix("compile-cache/") for info in store.list("compile-cache/")]


def test_the_list_says_of_each_environment_how_much_there_is_and_when_it_was_used(
    store: LocalStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("cache", "ls") == 0
    lines = [re.split(r"\s{2,}", line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["ENVIRONMENT", "ACCELERATOR", "HOSTS", "PROGRAMS", "SIZE", "LAST USED"],
        ["aa", "tpu-v6e-8-2x4", "2", "3", "900 bytes", "1d ago"],
        ["bb", "l4", "1", "1", "1.0 kB", "20d ago"],
        [f"{store.uri}: 4 programs, 1.9 kB in all"],
    ]
    assert command("cache", "ls", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["programs"], told["size_bytes"]) == (4, 1900)
    assert [each["environment"] for each in told["environments"]] == ["aa", "bb"]


def test_what_no_run_has_used_for_long_goes_once_that_is_confirmed(
    store: LocalStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("cache", "prune", "--dry-run") == 0
    assert "would delete 1 program, 300 bytes" in capsys.readouterr().out
    assert command("cache", "prune") == UsageError.exit_code
    assert "nothing was deleted" in capsys.readouterr().err
    assert len(left(store)) == 4
    assert command("cache", "prune", "--yes", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["programs"], told["size_bytes"], told["deleted"]) == (1, 300, True)
    assert "aa/tpu-v6e-8-2x4/0/jit_init-2-cache" not in left(store)
    assert len(left(store)) == 3


@pytest.mark.parametrize(
    ("size", "names"),
    [
        ("10k", {"1", "2", "3", "4"}),
        ("1600", {"1", "2", "4"}),
        ("700", {"1", "2"}),
        ("0", set()),
    ],
)
def test_the_least_recently_used_go_first_until_the_rest_has_the_size(
    store: LocalStore, capsys: pytest.CaptureFixture[str], size: str, names: set[str]
) -> None:
    numbered = {
        "aa/tpu-v6e-8-2x4/0/jit_step-1-cache": "1",
        "aa/tpu-v6e-8-2x4/1/jit_step-1-cache": "2",
        "aa/tpu-v6e-8-2x4/0/jit_init-2-cache": "3",
        "bb/l4/0/xla_gpu_per_fusion_autotune_cache_dir/tried": "4",
    }
    assert command("cache", "prune", "--max-size", size, "--yes") == 0
    assert {numbered[name] for name in left(store)} == names


def test_all_of_them_go_and_nothing_else_does(
    store: LocalStore, capsys: pytest.CaptureFixture[str]
) -> None:
    store.put_if_absent("compile-cache/by-hand", b"")
    assert command("cache", "prune", "--all", "-y") == 0
    assert "deleted 5 programs, 1.9 kB" in capsys.readouterr().out
    assert [info.name for info in store.list("")] == ["runs/1/job.json"]
    assert command("cache", "ls") == 0
    assert capsys.readouterr().out == f"{store.uri} keeps no compiled programs\n"


@pytest.mark.parametrize(
    "words", [("--max-size", "huge"), ("--all", "--older-than", "1d"), ("--older-than", "old")]
)
def test_what_cannot_be_asked_for_is_refused(
    store: LocalStore, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert command("cache", "prune", *words, "--yes") == UsageError.exit_code
    assert words[0] in capsys.readouterr().err
    assert len(left(store)) == 4


def test_what_was_used_just_then_stays(store: LocalStore) -> None:
    objects = stored_programs(store)
    oldest = min(info.updated for info in objects)
    assert unused_programs(objects, unused_since=oldest) == []
