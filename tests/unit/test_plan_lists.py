"""What is shown of a call on several accelerators: its plan, its card, and its run's page."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.plans.past import PastRuns
from kinetic_flows.plans.plan import CodeSummary, RunPlan
from kinetic_flows.plans.planned_cost import PlannedCost
from kinetic_flows.plans.planned_list import PlannedCandidate, PlannedList, tried_in_words
from kinetic_flows.plans.planned_rehearsal import PlannedRehearsal

TPU, GPU, CPU = (
    PlannedCandidate(
        accelerator=name,
        hardware=parse_accelerator(name).to_json(),
        image=f"registry/project:{kind}-0123456789ab",
        cached=cached,
        left_out=left_out,
    )
    for name, kind, cached, left_out in (
        ("tpu-v6e-8:spot", "tpu", False, ("no node pool has tpu-v6e-8:spot",)),
        ("l4x2", "gpu", True, ()),
        ("cpu", "cpu", None, ()),
    )
)
PAST = PastRuns(
    count=1, median_seconds=95, last_seconds=95, last_ended=datetime(2026, 1, 1, tzinfo=UTC)
)
FREE = ("l4s: 1 of 4 free now",)
COST = PlannedCost(hourly=2.0, source="a list")
CHOICE = PlannedList(
    candidates=(TPU, replace(GPU, rooms=FREE, past=PAST, cost=COST), CPU),
    strategy="in_order",
    fallback_after_seconds=600,
    on_oom="larger",
)
ON_ONE = RunPlan(
    name="train",
    platform="gke",
    accelerator="l4x2",
    mode="bundled",
    build_step="Cloud Build (cached by dep hash)",
    packages_come="Baked into the image",
    image=GPU.image,
    cached=True,
    dependency_file=None,
    dependency_source="no requirements",
    environment=None,
    code=CodeSummary(files=1, size_bytes=100),
    job_variables={},
    filtered=(),
    warnings=(),
    why=None,
    hardware=GPU.hardware,
    past=PAST,
)
PLAN = replace(ON_ONE, accelerator="tpu-v6e-8:spot or l4x2 or cpu", choice=CHOICE)


def test_a_plan_of_a_list_says_how_it_is_tried_and_what_each_accelerator_is() -> None:
    told = PLAN.explain()
    assert (
        "     runs on  tpu-v6e-8:spot or l4x2 or cpu, Google Kubernetes Engine\n"
        "       tried  in order: the next after 10 min of waiting, or at once where one cannot be "
        "had; one with more memory after a death for want of it\n"
        "\n"
        "          1.  tpu-v6e-8:spot\n"
        "     machine  1 host of ct6e-standard-8t\n"
        "       chips  8 TPU chips, topology 2x4, 32 GB each, Spot VMs\n"
        "       image  registry/project:tpu-0123456789ab (has to be built)\n"
        "        cost  not known: there is no price of tpu-v6e-8:spot; KINETIC_PRICES can say one\n"
        "    left out  no node pool has tpu-v6e-8:spot\n"
        "\n"
        "          2.  l4x2\n"
        "     machine  1 host of g2-standard-24\n"
        "       chips  2 GPUs, 24 GB each\n"
        "   node pool  l4s: 1 of 4 free now\n"
        "       image  registry/project:gpu-0123456789ab (exists)\n"
        "        took  1 min 35 s, once\n"
        "        cost  about $2.00 an hour (2 x $1.00), an estimate by a list\n"
        "\n"
        "          3.  cpu\n"
        "       image  registry/project:cpu-0123456789ab (not looked up)\n"
        "\n"
    ) in told
    assert "median of the last 3" not in told, "how long it took depends on what it runs on"


def test_the_last_rehearsal_is_told_of_each_accelerator_and_before_what_it_costs() -> None:
    rehearsed = PlannedRehearsal(
        made_at=datetime.now(UTC) - timedelta(hours=2, minutes=1),
        outcome=": fits, 12.30 of 31.25 GiB a device",
        document={"fits": True},
    )
    row = "2h ago: fits, 12.30 of 31.25 GiB a device"
    on_one = replace(ON_ONE, rehearsed=rehearsed, cost=COST)
    lines = [line.strip() for line in on_one.explain().splitlines()]
    assert lines.count(f"rehearsed  {row}") == 1
    assert on_one.explain().index(row) < on_one.explain().index("an hour")
    assert on_one.to_json()["rehearsed"] == {"fits": True}
    assert ON_ONE.to_json()["rehearsed"] is None

    choice = replace(CHOICE, candidates=(TPU, replace(GPU, rehearsed=rehearsed), CPU))
    of_list = replace(PLAN, rehearsed=rehearsed, choice=choice)
    assert of_list.explain().count(row) == 1
    told = of_list.to_json()["choice"]["candidates"]
    assert [each["rehearsed"] for each in told] == [None, {"fits": True}, None]


def test_one_image_for_all_of_a_list_is_told_once() -> None:
    same = replace(CHOICE, candidates=(TPU, replace(TPU, accelerator="tpu-v6e-8", left_out=())))
    assert replace(PLAN, choice=same).explain().count("  image  ") == 1


@pytest.mark.parametrize(
    ("strategy", "seconds", "on_oom", "words"),
    [
        ("race", 5.0, None, "all at once: the first whose pods start wins, the others are withd"),
        ("race", 5.0, "larger", "withdrawn; one with more memory after a death for want of it"),
        ("in_order", 90.0, None, "the next after 1 min 30 s of waiting, or at once where"),
    ],
)
def test_how_a_list_is_tried_is_said_in_words(
    strategy: str, seconds: float, on_oom: str | None, words: str
) -> None:
    choice = replace(CHOICE, strategy=strategy, fallback_after_seconds=seconds, on_oom=on_oom)
    assert words in tried_in_words(choice)


def test_a_notebook_shows_what_is_tried_and_what_is_left_out() -> None:
    shown = PLAN._repr_html_()
    assert "in order: the next after 10 min of waiting" in shown
    assert "tpu-v6e-8:spot: no node pool has tpu-v6e-8:spot" in shown


def test_a_plan_of_a_list_is_plain_json_and_can_be_kept() -> None:
    document = json.loads(json.dumps(PLAN.to_json()))["choice"]
    assert (document["strategy"], document["on_oom"]) == ("in_order", "larger")
    tpu, gpu, cpu = document["candidates"]
    assert tpu["left_out"] == ["no node pool has tpu-v6e-8:spot"]
    assert (tpu["hardware"]["count"], tpu["rooms"], tpu["past"]) == (8, None, None)
    assert (gpu["cached"], gpu["rooms"]) == (True, ["l4s: 1 of 4 free now"])
    assert (gpu["past"]["median_seconds"], cpu["image"]) == (95, CPU.image)
    assert ON_ONE.to_json()["choice"] is None
    assert pickle.loads(pickle.dumps(PLAN)) == PLAN
