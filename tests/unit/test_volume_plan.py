"""What a call with volumes needs of a work pool's template, whoever starts its run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kinetic_flows.core.data import Data
from kinetic_flows.core.errors import LaunchError, UsageError
from kinetic_flows.core.options import RunOptions
from kinetic_flows.core.settings.settings import load_settings, resolve_settings
from kinetic_flows.plans.draft import Call, Draft, draft_call
from kinetic_flows.plans.look_ahead import lacks_place, refuse_volume
from kinetic_flows.platforms.choose import choose_platform
from kinetic_flows.platforms.gke.manifests import base_job_template


class NoProfiles:
    def load(self, name: str) -> None: ...

    def names(self) -> tuple[str, ...]:
        return ()


def train(what: Any = None) -> None: ...


def a_draft(tmp_path: Path, *args: Any, **options: Any) -> Draft:
    """Return the draft of a call on a cluster, where nobody is asked."""
    environ = {
        "KINETIC_HOME": str(tmp_path / "home"),
        "KINETIC_PLATFORM": "gke",
        "KINETIC_PROJECT": "my-project",
        "STORAGE_EMULATOR_HOST": "http://127.0.0.1:9",
    }
    settings = resolve_settings(
        load_settings(environ), NoProfiles(), environ=environ, arguments=None
    )
    (tmp_path / "project").mkdir(exist_ok=True)
    return draft_call(
        Call(
            function=train,
            args=args,
            kwargs={},
            options=RunOptions().updated({"requirements": (), **options}),
        ),
        settings,
        choose_platform(settings, environ),
        cwd=tmp_path / "project",
        sys_path=[],
        environ=environ,
    )


def an_earlier_template() -> dict[str, Any]:
    template = base_job_template()
    for name in ("volume_1", "volume_mount_1"):
        del template["variables"]["properties"][name]
    return template


def never() -> dict[str, Any]:
    raise AssertionError("the template is asked for")


def test_a_call_without_volumes_asks_for_no_template(tmp_path: Path):
    assert lacks_place(a_draft(tmp_path), a_draft(tmp_path).platform, never) is None


@pytest.mark.parametrize(
    ("args", "options"),
    [
        ((), {"volumes": {"/s": "scratch:1Gi"}}),
        ((Data("gs://bucket/x", mode="mount"),), {}),
    ],
)
def test_what_a_worker_could_not_give_a_run_is_refused_before_anything_is_built(
    tmp_path: Path, args: tuple[Any, ...], options: dict[str, Any]
):
    draft = a_draft(tmp_path, *args, **options)
    refuse_volume(draft, draft.platform, base_job_template)
    with pytest.raises(LaunchError) as raised:
        refuse_volume(draft, draft.platform, an_earlier_template)
    assert "the run cannot have its volumes" in str(raised.value)
    assert "`kinetic pool create` brings it up to date" in str(raised.value)


def test_a_worker_is_not_asked_for_what_no_machine_has(tmp_path: Path):
    draft = a_draft(tmp_path, accelerator="tpu-v6e-8", memory="2Ti")
    with pytest.raises(LaunchError, match="no machine with tpu-v6e-8 has 2Ti of memory"):
        refuse_volume(draft, draft.platform, never)
    refuse_volume(
        a_draft(tmp_path, accelerator="tpu-v6e-8", memory="1Ti"), draft.platform, base_job_template
    )


def test_a_copied_argument_needs_no_place(tmp_path: Path):
    draft = a_draft(tmp_path, Data("gs://bucket/x"))
    assert lacks_place(draft, draft.platform, never) is None


def test_more_volumes_than_a_pod_can_have_make_no_draft(tmp_path: Path):
    with pytest.raises(UsageError, match="the run has 9 volumes"):
        a_draft(tmp_path, volumes={f"/d{number}": "scratch:1Gi" for number in range(9)})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"job_variables": {"memroy": "1Gi"}}, "no variable 'memroy', which job_variables sets; "),
        ({"accelerator": "l4:flex"}, "no variable flex_start, which the run sets: `kinetic pool "),
        ({"zones": "us-central1-a"}, "no variable affinity, which the run sets"),
        ({"job_variables": {"node_selector": {"a": "b"}}}, "no variable affinity, which"),
        ({"reservation": "ours"}, "no variable reservation_name, which"),
    ],
)
def test_what_a_template_has_no_place_for_is_refused_by_a_plan_and_by_a_call(
    tmp_path: Path, options: dict[str, Any], words: str
):
    def older() -> dict[str, Any]:
        template = base_job_template()
        for name in ("flex_start", "affinity", "reservation_name", "reservation_affinity"):
            del template["variables"]["properties"][name]
        return template

    draft = a_draft(tmp_path, **options)
    found = lacks_place(draft, draft.platform, older)
    assert found is not None
    assert words in found.message
    is_mistaken = "memroy" in str(options)
    with_ours = lacks_place(draft, draft.platform, base_job_template)
    assert (with_ours is not None) is is_mistaken
