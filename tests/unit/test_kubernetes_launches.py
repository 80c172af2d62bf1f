"""Launches of one of several accelerators: how their objects are known in a namespace."""

from __future__ import annotations

from typing import Any

from kinetic_flows.platforms.gke import names
from kinetic_flows.platforms.gke.state import NamespaceState

RUN = "0f0e0d0c-1111-2222-3333-444455556666"


def item(name: str, launch: str = "", **fields: Any) -> dict[str, Any]:
    """Return a Job or pod of the run."""
    labels = {names.RUN_ID_POD_LABEL: RUN, **({names.LAUNCH_LABEL: launch} if launch else {})}
    return {"metadata": {"name": name, "uid": name, "labels": labels}, "spec": {}, **fields}


def event(kind: str, name: str) -> dict[str, Any]:
    return {
        "metadata": {"uid": f"event-{name}"},
        "involvedObject": {"kind": kind, "name": name},
        "reason": "FailedScheduling",
    }


def test_names_of_jobs_and_pods_tell_the_launch_and_random_endings_do_not() -> None:
    assert names.kubernetes_job_name("train", f"{RUN}-r0c1") == f"train-{RUN}-r0c1"
    for kind, name, key in (
        ("Job", f"train-{RUN}-r0c1", f"{RUN}-r0c1"),
        ("Pod", f"train-{RUN}-r0c1-x2b4z", f"{RUN}-r0c1"),
        ("Pod", f"train-{RUN}-r12c3-0-x2b4z", f"{RUN}-r12c3"),
        ("Pod", f"train-{RUN}-r2c45", RUN),
        ("Job", f"train-{RUN}", RUN),
    ):
        assert names.key_of_name(name, kind) == key
    assert names.key_of_name("another", "Pod") is None


def test_the_launches_of_a_run_are_kept_apart_and_listed() -> None:
    state = NamespaceState()
    for launch in ("r0c0", "r0c1"):
        state.put("jobs", item(f"train-{RUN}-{launch}", launch))
        state.put("pods", item(f"train-{RUN}-{launch}-x2b4z", launch))
    state.put("events", event("Pod", f"train-{RUN}-r0c1-x2b4z"))
    assert state.launches(RUN) == state.launches("") == (f"{RUN}-r0c0", f"{RUN}-r0c1")
    assert [len(state.view(f"{RUN}-{each}").events) for each in ("r0c0", "r0c1")] == [0, 1]
    assert state.view(RUN).job is None
    ended = {"conditions": [{"type": "Failed", "status": "True"}]}
    state.put("jobs", item(f"train-{RUN}-r0c0", "r0c0", status=ended))
    state.put("pods", item(f"train-{RUN}-r0c0-x2b4z", "r0c0", status={"phase": "Failed"}))
    assert state.launches("") == (f"{RUN}-r0c1",)
    assert len(state.launches(RUN)) == 2
    state.remove("jobs", item(f"train-{RUN}-r0c1", "r0c1"))
    assert state.launches(RUN) == (f"{RUN}-r0c0",)
