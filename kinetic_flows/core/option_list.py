"""The options of `@kinetic.run(...)`, as people read them: the one list that documents them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypedDict

from kinetic_flows.core.data import Data
from kinetic_flows.core.settings.cloud import Dispatch


class Options(TypedDict, total=False):
    """What `kinetic.run` and `with_options` take: the one list that documents it."""

    accelerator: str | Sequence[str]
    """What to run on, such as `cpu`, `l4` or `tpu-v6e-8`, or a name of the project's own for one;
    `:spot` or `:flex` at its end asks for Spot VMs or flex-start. A list names several, of which
    the run takes the first that can be had. What `KINETIC_ACCELERATOR` says by default, and else
    `cpu`."""

    strategy: Literal["in_order", "race"]
    """How a list of accelerators is tried: one after the other (`in_order`, default), or all at
    once, and the first whose pods start wins (`race`)."""

    fallback_after_seconds: float
    """How long each accelerator of a list may be waited for before the next is tried (default
    600); one that cannot be had is given up at once."""

    on_oom: Literal["larger"] | None
    """`larger`: a run that died because its host or its chips ran out of memory goes on with the
    next accelerator of the list that has more. None (default) ends it."""

    hosts: int | None
    """Nodes of a run on CPUs or GPUs, each with a process that calls the function; on this machine
    as many processes. None for one."""

    slices: int | None
    """TPU slices of a run, joined by multislice; None for one."""

    cpu: float | str | None
    """CPUs that each pod asks of its node, as a number or a Kubernetes quantity such as `500m`;
    None for the share of the machine that goes with the accelerator."""

    memory: str | None
    """Memory that each pod asks of its node and may use, as a Kubernetes quantity such as `64Gi`;
    None to ask for the share of the machine that goes with the accelerator, without a limit."""

    reservation: str | None
    """Google Cloud reservation whose machines to use: its name, `projects/P/reservations/NAME`, or
    `any` for whichever fits; None for none."""

    compute_class: str | None
    """GKE compute class that the pods ask for; None for none."""

    node_pool: str | None
    """GKE node pool to run on; None for any that fits."""

    zones: str | Sequence[str] | None
    """Zones in which the nodes may be; None for all of the cluster's."""

    max_run_duration_seconds: float | None
    """For how long nodes of flex-start are asked for, at most seven days; None for what their node
    pool says."""

    idle_timeout_seconds: float | None
    """How long the chips of a run may do nothing before it is ended; None (default) for ever."""

    stuck_after_seconds: float | None
    """How long a run may print nothing while its chips do nothing before what all its threads are
    doing is put into its log; None (default) for ever."""

    debug: bool
    """Whether each host waits for a debugger before it calls the function (debugpy, on its own
    loopback address only); `kinetic runs forward` leads there."""

    profile: bool
    """Whether a profile of the function, as XProf and Perfetto read them, is put among its
    outputs."""

    compile_cache: bool | None
    """Whether programs that XLA compiles for the run are kept for later runs of the same packages
    on the same accelerator, and found again; None (default) on TPUs and GPUs."""

    rehearse: bool
    """Whether a call is refused where the function's rehearsal says that a step does not fit the
    accelerator; one that is out of date is made again first. Retries and the runs of a deployment
    do not ask again. `KINETIC_REHEARSE=0` overrules it."""

    max_cost: float | None
    """What a run may cost before it is ended, in US dollars by the list prices that are known; it
    is refused where none is. None (default) for no limit."""

    container_image: Literal["bundled", "prebuilt"] | str | None
    """`bundled` (default, also None), `prebuilt`, or an image URI."""

    base_image_repo: str | None
    """Repository of prebuilt base images; None for `KINETIC_BASE_IMAGE_REPO`."""

    ship_wheels: bool
    """Whether prebuilt mode sends every package along, so that pods need no package index."""

    requirements: str | Path | Sequence[str] | None
    """A dependency file or a list of requirements; None to find the file."""

    framework: Literal["jax", "none"] | None
    """What the image is to bring on a cluster: `jax` with what it needs for the accelerator, or
    `none`, so that all of it comes from the requirements. None (default) decides by them: on GPUs
    a project with PyTorch or TensorFlow, and without jax, gets none. Nothing of it matters on this
    machine."""

    name: str | None
    """Name of the runs; None for the function's own."""

    tags: Sequence[str]
    """Tags of the flow runs."""

    retries: int
    """How often the function is called again after it raised."""

    retry_delay_seconds: float
    """Pause before each retry."""

    timeout_seconds: float | None
    """Limit for the function, all tries together; None for no limit."""

    schedule_timeout_seconds: float | None
    """How long a run may wait for its node before it fails with what it waits for (default 3600);
    None for no limit."""

    max_preemptions: int | None
    """How often a run that was preempted, evicted or lost with its node starts again; None for 3
    on Spot VMs and 0 elsewhere. What the function raises is never started again by it: that is
    `retries`."""

    cache_for: timedelta | float | Literal[True] | None
    """For how long a result answers further calls of the same function with the same arguments,
    code and dependencies: a `timedelta(days=7)`, or seconds; True for as long as it is kept; None
    (default) for never."""

    capture_env_vars: Sequence[str]
    """Names of environment variables to take along, or patterns of them such as `WANDB_*`; their
    values are sealed for the run."""

    secrets: Mapping[str, str] | None
    """Variables of the run whose values are secret, and where each comes from:
    `secret-manager:NAME`, `k8s:SECRET/KEY`, `prefect:BLOCK` or `env:VARIABLE`."""

    volumes: Mapping[str, Data | str] | None
    """What the run finds at absolute paths: `kinetic.Data(...)` or its source,
    `pvc:CLAIM[/DIRECTORY][:ro]`, or `scratch:100Gi`."""

    output_dir: str | Path | None
    """Where the run's outputs go: a name, a path or `gs://` URI, of which `{function}`, `{name}`,
    `{arguments_hash}` and the names of arguments in braces are replaced; it is used as it is, so
    that a later run finds what is there. None (default) for a directory of each run's own."""

    output_dir_in_use: Literal["refuse", "wait"]
    """What becomes of a run whose `output_dir` another run writes to that has not ended: it is
    refused (default), or waits for that run's end."""

    job_variables: Mapping[str, Any] | None
    """Variables of the work pool's job template on a cluster: `cpu`, `memory`, `memory_request`,
    `ephemeral_storage`, `shared_memory` (Kubernetes quantities, such as `64Gi`), `queue_name`,
    `priority_class_name`, `service_account_name`, `labels`, `annotations`, `tolerations`,
    `node_selector`, `affinity`, `topology_spread`, `env_from` (Secrets), and
    `active_deadline_seconds`, `finished_job_ttl`, `termination_grace_seconds` (whole seconds), or
    what an administrator added. What is left out is the work pool's default. Nothing of it matters
    on this machine."""

    project: str | None
    """Google Cloud project; None for `KINETIC_PROJECT`."""

    zone: str | None
    """Zone of the cluster; None for `KINETIC_ZONE`."""

    cluster: str | None
    """GKE cluster, or the name of a saved profile; None for `KINETIC_CLUSTER`."""

    dispatch: Dispatch | None
    """Who starts runs on a cluster: `client` (this process), `worker` (any stock Prefect worker of
    the work pool), or `auto`; None for `KINETIC_DISPATCH`."""
