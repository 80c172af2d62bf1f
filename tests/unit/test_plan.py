"""What a plan says to people and to machines."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kinetic_flows.code.captured_globals import captured_globals
from kinetic_flows.code.root import find_package_root
from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.core.environment import EnvironmentSpec, Package
from kinetic_flows.core.image_builder import ImagePreview
from kinetic_flows.core.job_parts import Sha256
from kinetic_flows.core.moments import duration
from kinetic_flows.core.options import RunOptions
from kinetic_flows.plans.data_plan import plan_volumes
from kinetic_flows.plans.past import PastRuns
from kinetic_flows.plans.plan import (
    CodeSummary,
    PlannedData,
    PlannedFile,
    PlannedVariable,
    RunPlan,
)
from kinetic_flows.plans.planned_cost import PlannedCost

LEFT_OUT = "requirements.txt:2: jax==0.4 is left out"
ENDED = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)

PLAN = RunPlan(
    name="train",
    platform="gke",
    accelerator="tpu-v6e-8",
    mode="bundled",
    build_step="Cloud Build (cached by dep hash)",
    packages_come="Baked into the image",
    image="registry/project:tpu-0123456789ab",
    cached=False,
    dependency_file="/home/me/requirements.txt",
    dependency_source="/home/me/requirements.txt",
    environment=EnvironmentSpec(
        category="tpu",
        python="3.11",
        platform="x86_64-manylinux_2_28",
        base_identity="base",
        lock="",
        packages=(Package(name="numpy", version="2.1.1"),),
        wheels=(),
        dependency_hash=Sha256("0123456789ab" + "0" * 52),
    ),
    code=CodeSummary(files=3, size_bytes=1_500_000),
    job_variables={},
    filtered=(LEFT_OUT,),
    warnings=("something else",),
    why=("numpy 2.1.0 → 2.1.1", "+ tqdm 4.70.1"),
)

WHOLE = replace(
    PLAN,
    notices=("there is no work pool yet",),
    obstacles=("the bucket gs://jobs does not exist",),
    where={
        "project": "vision",
        "cluster": "training",
        "location": "us-east5-b",
        "namespace": "default",
        "bucket": "gs://jobs",
        "image_repository": "registry/project",
        "work_pool": "kinetic-gke",
    },
    prefect_api="https://prefect.example.com/api",
    dispatched_by="client",
    hardware=parse_accelerator("tpu-v6e-8").to_json(),
    asks_for={"memory": "64Gi", "google.com/tpu": "8"},
    rooms=("v6e: 2 nodes, 8 of 16 chips free",),
    root="/home/me/project",
    files=(
        PlannedFile(path="data/table.csv", size_bytes=1_400_000),
        PlannedFile(path="requirements.txt", size_bytes=205),
        PlannedFile(path="train.py", size_bytes=99_795),
    ),
    variables=(
        PlannedVariable(name="API_TOKEN", value=None, source="capture_env_vars"),
        PlannedVariable(name="DATASET", value="s3://cats", source="capture_env_vars"),
    ),
    captured=("RATES (dict)",),
    past=PastRuns(
        count=3,
        median_seconds=754,
        last_seconds=7500,
        last_ended=ENDED,
        phases={"upload": 0.1, "wait": 62.0, "node": 40.0, "install": 5.25, "run": 740.0},
    ),
    cost=PlannedCost(hourly=21.6, source="a list", runs=3, median=4.5, last=45.0, limit=50.0),
    builds=PastRuns(count=1, median_seconds=95, last_seconds=95, last_ended=ENDED),
)


def test_a_plan_answers_where_on_what_from_which_image_with_which_files_and_how_long() -> None:
    assert WHOLE.explain() == (
        "        function  train\n"
        "         runs on  tpu-v6e-8, Google Kubernetes Engine\n"
        "         cluster  training in us-east5-b, project vision, namespace default\n"
        "          bucket  gs://jobs\n"
        "image repository  registry/project\n"
        "       work pool  kinetic-gke\n"
        "         prefect  https://prefect.example.com/api\n"
        "      started by  this program\n"
        "\n"
        "         machine  1 host of ct6e-standard-8t\n"
        "           chips  8 TPU chips, topology 2x4, 32 GB each\n"
        "        asks for  memory 64Gi, google.com/tpu 8\n"
        "       node pool  v6e: 2 nodes, 8 of 16 chips free\n"
        "\n"
        "           image  registry/project:tpu-0123456789ab (bundled, has to be built)\n"
        "           build  Cloud Build (cached by dep hash); the last builds took 1 min 35 s,"
        " once\n"
        "             why  numpy 2.1.0 → 2.1.1\n"
        "             why  + tqdm 4.70.1\n"
        "    dependencies  /home/me/requirements.txt, baked into the image\n"
        "        packages  1 locked\n"
        "            hash  0123456789ab" + "0" * 52 + "\n"
        "\n"
        "            code  3 files, 1.5 MB of /home/me/project\n"
        "        variable  API_TOKEN (capture_env_vars; its value is not shown)\n"
        "        variable  DATASET=s3://cats (capture_env_vars)\n"
        "        captured  RATES (dict)\n"
        "\n"
        "            took  12 min 34 s (median of the last 3 times), 2 h 5 min last\n"
        "          phases  waited to start 1 min 2 s, of that, for a node 40 s, installed 5.2 s,"
        " ran 12 min 20 s\n"
        "            cost  about $21.60 an hour (8 x $2.70), an estimate by a list\n"
        "                  the last 3 runs cost about $4.50 each (median), $45.00 last\n"
        "                  ended when it has cost $50.00 (max_cost): after 2 h 18 min\n"
        "\n"
        "            note  there is no work pool yet\n"
        f"        left out  {LEFT_OUT}\n"
        "         warning  something else\n"
        "      in the way  the bucket gs://jobs does not exist"
    )
    assert str(WHOLE) == WHOLE.explain()


MAKING = ImagePreview(
    builder="direct",
    because="12.0 MB to send, at most 100.0 MB",
    layers=41,
    known=39,
    bytes_to_send=12_000_000,
)


def test_a_plan_says_of_how_many_layers_an_image_is_and_who_assembles_it() -> None:
    plan = replace(WHOLE, making=MAKING)
    assert (
        "(bundled, has to be built)\n"
        "                  assembled from 41 layers, 39 known, 2 to make, 12.0 MB to send\n"
        "         builder  direct (12.0 MB to send, at most 100.0 MB); the last builds took"
        " 1 min 35 s, once\n"
        "             why  "
    ) in plan.explain()
    assert json.loads(json.dumps(plan.to_json()))["making"] == {
        "builder": "direct",
        "because": "12.0 MB to send, at most 100.0 MB",
        "layers": 41,
        "known": 39,
        "bytes_to_send": 12_000_000,
        "warnings": [],
    }
    assert WHOLE.to_json()["making"] is None


def test_every_file_is_listed_with_its_size_where_that_is_asked() -> None:
    listed = WHOLE.explain(files=True)
    indent = " " * len("image repository  ")
    assert f"\n{indent}   1.4 MB  data/table.csv\n" in listed
    assert f"\n{indent}205 bytes  requirements.txt\n" in listed
    assert "data/table.csv" not in WHOLE.explain()


def test_where_there_are_many_files_the_largest_are_named() -> None:
    more = replace(WHOLE, files=(*WHOLE.files, PlannedFile(path="a.py", size_bytes=1)))
    named = "data/table.csv (1.4 MB), train.py (99.8 kB), requirements.txt (205 bytes)\n"
    assert f"         largest  {named}" in more.explain()


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_on_a_terminal_texts_go_on_below_themselves_and_words_stay_whole(columns: int) -> None:
    shown = replace(WHOLE, warnings=("word " * 60,)).explain(columns=columns)
    wide = [line for line in shown.splitlines() if len(line) > columns]
    assert all(" " not in line[18:] for line in wide), "only what cannot be broken is wider"
    assert f"\n{' ' * 18}word word" in shown


def test_a_plan_before_anything_is_known_of_its_surroundings_says_what_it_knows() -> None:
    shown = PLAN.explain()
    assert "image  registry/project:tpu-0123456789ab (bundled, has to be built)\n" in shown
    assert "prefect" not in shown
    assert "took" not in shown


def test_in_a_repl_a_plan_is_a_few_lines() -> None:
    assert repr(WHOLE) == (
        "<RunPlan train on tpu-v6e-8, Google Kubernetes Engine\n"
        "  registry/project:tpu-0123456789ab (bundled, has to be built)\n"
        "  3 files, 1.5 MB; took 12 min 34 s; 1 warning; 1 obstacle>"
    )
    assert repr(replace(PLAN, code=None, warnings=())).endswith("(bundled, has to be built)>")


def test_a_plan_tells_machines_the_same() -> None:
    told = json.loads(json.dumps(WHOLE.to_json()))
    assert told["filtered"] == [LEFT_OUT]
    assert told["warnings"] == ["something else"]
    assert told["why"] == ["numpy 2.1.0 → 2.1.1", "+ tqdm 4.70.1"]
    assert told["packages"] == {"numpy": "2.1.1"}
    assert told["cached"] is False
    assert told["dependency_source"] == "/home/me/requirements.txt"
    assert told["where"]["cluster"] == "training"
    assert told["hardware"]["memory_gb"] == 32
    assert told["files"][1] == {"path": "requirements.txt", "size_bytes": 205}
    assert told["variables"][0] == {
        "name": "API_TOKEN",
        "value": None,
        "source": "capture_env_vars",
    }
    assert told["past"]["last_ended"] == "2026-05-04T03:02:01+00:00"


def test_a_plan_whose_image_exists_gives_no_reasons() -> None:
    cached = replace(PLAN, cached=True, why=None)
    assert "why" not in cached.explain()
    assert "(bundled, exists)" in cached.explain()


def test_the_image_that_is_mounted_is_told_before_how_it_would_be_made() -> None:
    making = ImagePreview(builder="direct", because="little", layers=3, known=1, bytes_to_send=9)
    mounted = replace(
        PLAN, mode="prebuilt", cached=True, packages_image="r/p:cpu-1", packages_cached=False,
        packages_come="Mounted as a volume", making=making,
    )  # fmt: skip
    labels = [line.split()[0] for line in mounted.explain().splitlines() if line.strip()]
    assert [each for each in labels if each in ("image", "mounted", "builder", "dependencies")] == [
        "image",
        "mounted",
        "builder",
        "dependencies",
    ]
    assert "mounted  r/p:cpu-1 (has to be built)" in mounted.explain()
    told = mounted.to_json()
    assert (told["packages_image"], told["packages_cached"]) == ("r/p:cpu-1", False)


DATA = (
    PlannedData(
        source="/home/me/images",
        how="sent",
        identity="0123456789abcdef" * 4,
        files=12_345,
        size_bytes=3_400_000_000,
        unsent_bytes=200_000_000,
    ),
    PlannedData(source="gs://bucket/set", how="mounted", at="/data"),
)


def test_a_plan_tells_which_data_is_read_and_what_is_sent_of_it() -> None:
    plan = replace(PLAN, data=DATA)
    told = [line.strip() for line in plan.explain().splitlines()]
    begin = told.index("data  /home/me/images (sent to the store)")
    assert told[begin + 1 : begin + 3] == [
        "12,345 files, 3.4 GB, identity 0123456789ab, 200.0 MB to send",
        "data  gs://bucket/set (mounted) at /data",
    ]
    assert "nothing to send" in replace(plan, data=(replace(DATA[0], unsent_bytes=0),)).explain()
    assert "2 sources of data" in repr(plan)
    assert "1 source of data, 3.4 GB" in repr(replace(plan, data=DATA[:1]))
    assert json.loads(json.dumps(plan.to_json()))["data"][1] == {
        "source": "gs://bucket/set",
        "how": "mounted",
        "at": "/data",
        "identity": None,
        "files": None,
        "size_bytes": None,
        "unsent_bytes": None,
    }


def test_a_plan_tells_of_claims_and_scratch_disks() -> None:
    options = RunOptions().updated(
        {"volumes": {"/d": "pvc:datasets/c4:ro", "/s": "scratch:1Ti", "/x": "gs://bucket/set"}}
    )
    plan = replace(PLAN, volumes=plan_volumes(options))
    told = [line.strip() for line in plan.explain().splitlines()]
    begin = told.index("volume  pvc:datasets/c4 at /d, read-only")
    assert told[begin + 1] == "volume  scratch:1Ti at /s"
    assert plan.to_json()["volumes"] == [
        {"path": "/d", "volume": "pvc:datasets/c4", "read_only": True},
        {"path": "/s", "volume": "scratch:1Ti", "read_only": False},
    ]


def test_what_somebody_else_sends_meanwhile_makes_no_other_plan_of_it() -> None:
    others = (replace(DATA[0], unsent_bytes=0), DATA[1])
    assert replace(PLAN, data=others) == replace(PLAN, data=DATA)


def test_what_others_do_meanwhile_makes_no_other_plan_of_it() -> None:
    assert replace(WHOLE, past=None, builds=None, rooms=None, making=MAKING) == WHOLE


def test_a_plan_can_be_kept() -> None:
    assert pickle.loads(pickle.dumps(WHOLE)) == WHOLE


FACTOR = {"of": 2}
REPOSITORY = Path(__file__).parents[2]
ROOT = find_package_root(duration, override=REPOSITORY, cwd=REPOSITORY, sys_path=[str(REPOSITORY)])


def test_what_a_function_takes_along_by_value_is_named() -> None:
    inner = 3

    def local(value: int) -> int:
        return sum(each * FACTOR["of"] * inner for each in range(value)) + len(json.dumps({}))

    assert captured_globals(local, ROOT) == ("FACTOR (dict)", "inner (int)")


def test_a_function_that_runs_import_takes_nothing_along() -> None:
    assert captured_globals(duration, ROOT) == ()
