"""Calls with `rehearse=True` are not launched where their rehearsal says that they do not fit."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from corpus.dependencies.stores import MemoryStore
from kinetic_flows.clients.prefect.api import PrefectApi
from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.core.artifact_store import StoreTrust
from kinetic_flows.core.errors import RehearsalError
from kinetic_flows.core.options import RunOptions
from kinetic_flows.core.progress import NullProgress
from kinetic_flows.core.rehearsals import (
    RehearsalRecord,
    StepMemory,
    StepReport,
    TargetReport,
    Verdict,
)
from kinetic_flows.core.settings.settings import load_settings, resolve_settings
from kinetic_flows.flows.rehearse_gate import HERE, admitted
from kinetic_flows.plans.draft import Call, Draft, draft_call
from kinetic_flows.plans.rehearsal import code_digest, function_id, target_for
from kinetic_flows.plans.rehearsal_look import (
    is_asked_for,
    last_rehearsals,
    records_of,
    subjects_of,
)
from kinetic_flows.platforms.choose import choose_platform
from kinetic_flows.runs.ledger import ClientLedger
from kinetic_flows.runs.session import Session

SMALL, LARGE = "tpu-v5litepod-8", "tpu-v6e-8"
IMAGE = "registry.example/app@sha256:" + "a" * 64


class Heard(NullProgress):
    def __init__(self) -> None:
        self.told: list[str] = []

    def notice(self, text: str) -> None:
        self.told.append(text)

    def warning(self, text: str) -> None:
        self.told.append(f"warning: {text}")


class NoProfiles:
    def load(self, name: str) -> None: ...

    def names(self) -> tuple[str, ...]:
        return ()


def train() -> None: ...


def train_rehearsal(devices: Any) -> Any: ...


def a_draft(home: Path, *accelerators: str, platform: str = "gke", **environ: str) -> Draft:
    """Return the draft of a call with an image that has its own packages: nobody is asked."""
    variables = {
        "KINETIC_HOME": str(home),
        "KINETIC_PLATFORM": platform,
        "KINETIC_PROJECT": "my-project",
        "STORAGE_EMULATOR_HOST": "http://127.0.0.1:9",
        **environ,
    }
    settings = resolve_settings(
        load_settings(variables), NoProfiles(), environ=variables, arguments=None
    )
    image = {} if platform == "local" else {"container_image": IMAGE}
    (home / "project").mkdir(exist_ok=True)
    return draft_call(
        Call(
            function=train,
            args=(),
            kwargs={},
            options=RunOptions().updated(
                {"accelerator": list(accelerators), "rehearse": True, "requirements": (), **image}
            ),
            rehearsal=train_rehearsal,
        ),
        settings,
        choose_platform(settings, variables),
        cwd=home / "project",
        sys_path=[],
        environ=variables,
    )


def admit(draft: Draft) -> tuple[Draft, list[str]]:
    heard = Heard()
    session = Session(
        settings=draft.settings,
        environ={},
        platform=draft.platform,
        api=cast("PrefectApi", None),
        ledger=cast("ClientLedger", None),
        progress=heard,
    )
    return admitted(draft, session), heard.told


def rehearsed(draft: Draft, verdicts: Mapping[str, Verdict]) -> None:
    """Keep a rehearsal of a draft's code with such an outcome."""
    memory = StepMemory(available_bytes=16 << 30, needed_bytes=20 << 30)
    records_of(draft).keep(
        RehearsalRecord(
            function=function_id(train, draft.root.path),
            code_sha256=code_digest(draft),
            environments=dict.fromkeys(verdicts, IMAGE),
            made_at=time.time(),
            reports=tuple(
                TargetReport(
                    accelerator=name,
                    steps=(StepReport(name="train", verdict=verdict, memory=memory),),
                    devices=target_for(parse_accelerator(name)).devices,
                )
                for name, verdict in verdicts.items()
            ),
        )
    )


def test_what_fits_is_launched_as_it_was_asked_for(tmp_path: Path) -> None:
    draft = a_draft(tmp_path, LARGE)
    rehearsed(draft, {LARGE: "fits"})
    assert admit(draft) == (draft, [])


def test_a_method_is_rehearsed_for_its_instance_and_a_function_for_compilers_variables(
    tmp_path: Path,
) -> None:
    draft = a_draft(tmp_path, LARGE)
    narrow, wide = (
        replace(draft, call=replace(draft.call, bound=({"width": width},))) for width in (8, 9)
    )
    flags = replace(draft, captured={"XLA_FLAGS": "--xla_dump_to=x"})
    noted = replace(draft, captured={"USER": "me"})
    digests = [code_digest(each) for each in (draft, narrow, wide, flags, noted)]
    assert digests[0] == digests[-1]
    assert len(set(digests)) == 4


def test_what_does_not_fit_is_refused_with_what_would_fit(tmp_path: Path) -> None:
    draft = a_draft(tmp_path, SMALL)
    rehearsed(draft, {SMALL: "exceeds", LARGE: "fits"})
    with pytest.raises(RehearsalError) as refused:
        admit(draft)
    assert refused.value.message == (
        f"train does not fit {SMALL}, as its rehearsal says: it needs 20.00 of 16.00 GiB a device"
    )
    assert (refused.value.hint or "").startswith(f"{LARGE} is the smallest rehearsed that fits")


def test_of_a_list_what_does_not_fit_is_left_out_with_a_notice(tmp_path: Path) -> None:
    draft = a_draft(tmp_path, f"{SMALL}:spot", LARGE, "cpu")
    rehearsed(draft, {SMALL: "exceeds", LARGE: "fits"})

    left, told = admit(draft)
    assert left.runs_on == f"{LARGE} or cpu"
    assert str(left.accelerator) == LARGE
    assert left.left_out == tuple(told)
    needs = "it needs 20.00 of 16.00 GiB a device"
    assert told == [f"{SMALL}:spot is left out: train does not fit, as its rehearsal says: {needs}"]


def test_what_could_not_be_compiled_is_launched_with_a_warning(tmp_path: Path) -> None:
    draft = a_draft(tmp_path, LARGE)
    rehearsed(draft, {LARGE: "failed"})
    assert admit(draft) == (
        draft,
        [f"warning: nobody knows whether train fits {LARGE}: its rehearsal does not say"],
    )


def test_on_this_machine_nothing_is_rehearsed_and_that_is_said_once(tmp_path: Path) -> None:
    draft = a_draft(tmp_path, "cpu", platform="local")
    heard = [told for _ in range(2) for told in admit(draft)[1]]
    assert heard.count(HERE) == 1


def test_the_setting_overrules_what_the_decorator_asks_for(tmp_path: Path) -> None:
    assert is_asked_for(a_draft(tmp_path, LARGE))
    overruled = a_draft(tmp_path, LARGE, KINETIC_REHEARSE="0")
    rehearsed(overruled, {LARGE: "exceeds"})
    assert admit(overruled) == (overruled, [])
    assert not is_asked_for(overruled)
    assert not is_asked_for(a_draft(tmp_path, "cpu", platform="local"))


def test_the_store_is_asked_once_and_only_where_this_machine_knows_too_little(
    tmp_path: Path,
) -> None:
    store, asked = MemoryStore(), {parse_accelerator(LARGE): IMAGE, parse_accelerator(SMALL): IMAGE}
    shared = SimpleNamespace(
        store=store, store_trust=lambda: StoreTrust(key=b"team"), sees_files=False
    )
    (tmp_path / "theirs").mkdir()
    mine, theirs = (
        replace(a_draft(home, LARGE), platform=cast("Any", shared))
        for home in (tmp_path, tmp_path / "theirs")
    )
    rehearsed(mine, {LARGE: "fits", SMALL: "exceeds"})
    store.reads.clear()
    for draft, reads in ((mine, 0), (theirs, 1)):
        found = last_rehearsals(draft, subjects_of(draft, asked))
        assert [each.is_current for each in found.values()] == [True, True]
        assert len(store.reads) == reads
