"""Writes what the test of what stays compares with.

    python tests/corpus/what_stays/write.py names      adds what is new to names.json
    python tests/corpus/what_stays/write.py pickles    has written pickles.json

`names` only ever adds: what is gone stays in the list until a person takes it out. `pickles` was
run once, by version 0.1.0. They are what people keep; a later version reads them, and does not
write them anew. It may add some of its own under other names.
"""

import base64
import json
import pickle
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

import cloudpickle  # noqa: E402
import remote_example  # noqa: E402

import kinetic  # noqa: E402

RUN, DIGEST = "0b8d6c1e-5a43-4a3c-9d5f-1f1a0d2c3b4e", "0123456789abcdef" * 4


def write_names():
    from what_stays import collected

    path = HERE / "names.json"
    names = json.loads(path.read_text()) if path.exists() else {}
    for section, found in collected().items():
        names[section] = {**found, **names.get(section, {})}
    path.write_text(json.dumps(names, indent=1, sort_keys=True) + "\n")


def write_pickles():
    from old_pickles import described, names_in

    entries = {}
    for name, value, dumps in [*handles(), *functions(), *plans(), *errors()]:
        data = dumps(value)
        entries[name] = {
            "names": names_in(data),
            "holds": None if name == "group" else described(value),
            "data": base64.b64encode(data).decode(),
        }
        if name.endswith("by value"):
            entries[name]["python"] = f"{sys.version_info.major}.{sys.version_info.minor}"
    (HERE / "pickles.json").write_text(json.dumps(entries, indent=1, sort_keys=True) + "\n")


def dumped(value):
    return pickle.dumps(value, protocol=5)


def ticket(**fields):
    from kinetic_flows.core.job import RunTicket

    return RunTicket(run_id=RUN, name="train", run_key="ab" * 32, **fields)


def handles():
    url = f"http://127.0.0.1:4200/runs/flow-run/{RUN}"
    cloud = {"project": "my-project", "cluster": "training"}
    run = kinetic.Run(ticket=ticket(dispatch="worker", place="gke:p"), url=url, cloud=cloud)
    yield "run", run, dumped
    yield "run, by protocol 4", run, lambda value: pickle.dumps(value, protocol=4)
    yield "run, by cloudpickle", run, cloudpickle.dumps
    group = kinetic.RunGroup(
        id=RUN, name="train", url=url, source=None, cloud=cloud, return_exceptions=True
    )
    yield "group", group, dumped

    from kinetic_flows.api.deployment import Deployment

    deployment = Deployment(
        id=RUN,
        name="train/nightly",
        url=url,
        change="created",
        image=f"repository/app@sha256:{DIGEST}",
        work_pool="kinetic-gke",
        worker_type="kubernetes",
        schedules=("every day at 02:00",),
        paused=False,
        parameters={"steps": 3},
        parameter_schema={"type": "object"},
        tags=("team",),
        concurrency_limit=1,
    )
    yield "deployment", deployment, dumped

    from kinetic_flows.blocks import KineticCluster

    yield "block", KineticCluster(project="my-project", zone="us-central1-a"), dumped


def functions():
    yield "function", remote_example.doubled, dumped
    yield "function, by cloudpickle", remote_example.doubled, cloudpickle.dumps
    yield "function, decorated elsewhere", kinetic.run(remote_example.tripled), dumped
    # The plain function behind a decorated name is not found by that name.
    changed = remote_example.doubled.with_options(name="other")
    yield "function with other options, by value", changed, cloudpickle.dumps
    yield "method, by value", remote_example.Model(4).scaled, cloudpickle.dumps

    @kinetic.run(accelerator="tpu-v6e-8")
    def quadrupled(number):
        return 4 * number

    yield "function of a script, by value", quadrupled, cloudpickle.dumps

    from kinetic_flows.core.inside_run import as_inside_run

    inside = as_inside_run(remote_example.tripled)
    given = (inside.options, inside.submit, inside.with_options)
    yield "what a run finds on a function", given, dumped


def plans():
    from kinetic_flows.core.job_parts import (ObjectRef)
    from kinetic_flows.plans.plan import CodeSummary, EnvironmentSpec, Package, RunPlan

    environment = EnvironmentSpec(
        category="tpu",
        python="3.11",
        platform="x86_64-manylinux_2_36",
        base_identity=DIGEST,
        lock="jax==0.7.0\n",
        packages=(Package(name="jax", version="0.7.0"),),
        wheels=(ObjectRef(name="wheels/w.whl", sha256=DIGEST, size_bytes=7),),
        dependency_hash=DIGEST,
    )
    plan = RunPlan(
        name="train",
        platform="gke",
        accelerator="tpu-v6e-8",
        mode="bundled",
        build_step="An image is built",
        packages_come="In the image",
        image="repository/app:tpu-0123456789ab",
        cached=False,
        dependency_file="/project/uv.lock",
        dependency_source="uv.lock",
        environment=environment,
        code=CodeSummary(files=3, size_bytes=1000),
        job_variables={"memory": "64Gi"},
        filtered=("left out",),
        warnings=("a warning",),
        why=("jax is new",),
    )
    yield "plan", plan, dumped
    yield "outcome of a base image", outcomes()[0], dumped


def outcomes():
    from kinetic_flows.flows.build_image_task import BaseOutcome

    built = BaseOutcome(name="cpu", references=("user/base-cpu:v1",), action="built", digest=DIGEST)
    failed = BaseOutcome(name="gpu", references=("user/base-gpu:v1",), action="failed", error="no")
    return built, failed


def errors():
    from kinetic_flows.clients.kubernetes.client import KubernetesRefused
    from kinetic_flows.core.errors import KineticError, RunError
    from kinetic_flows.flows.build_image import BaseImagesFailed
    from kinetic_flows.flows.build_image_task import BaseImageFailed
    from public_api import error_classes
    from what_stays import modules

    modules()
    for kind in sorted(error_classes(), key=lambda kind: kind.__name__):
        if kind.__init__ in (KineticError.__init__, RunError.__init__):
            given = {"value": "train", "hint": "do it again"}
            if issubclass(kind, RunError):
                given |= {"log_tail": ["first", "last"], "remote_traceback": "Traceback: ...\n"}
            yield f"error {kind.__name__}", kind(f"this is {kind.__name__}", **given), dumped
    cause = kinetic.KineticError("it failed", value="gpu", hint="look")
    for error in (
        KubernetesRefused(403, "no", "POST /jobs"),
        BaseImageFailed(cause, 3.5),
        BaseImagesFailed(outcomes(), hint="run it again"),
    ):
        yield f"error {type(error).__name__}", error, dumped


if __name__ == "__main__":
    {"names": write_names, "pickles": write_pickles}[sys.argv[1]]()
