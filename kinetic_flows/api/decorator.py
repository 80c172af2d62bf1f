"""`@kinetic.run(...)`: the decorator.

Decorating reads no file and imports nothing heavy; everything happens when the function is
called, submitted or planned.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, Unpack, overload

from kinetic_flows.api.accelerator_names import with_accelerator
from kinetic_flows.api.remote_function import RemoteFunction
from kinetic_flows.core.api_boundary import at_api_boundary
from kinetic_flows.core.data import Data
from kinetic_flows.core.errors import FunctionNotSupportedError
from kinetic_flows.core.functions import is_flow
from kinetic_flows.core.inside_run import as_inside_run
from kinetic_flows.core.option_list import Options
from kinetic_flows.core.options import RunOptions, check_together
from kinetic_flows.core.settings.settings import load_settings
from kinetic_flows.core.signatures import resolve_local_names, spell_out

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta
    from pathlib import Path

    from kinetic_flows.core.settings.cloud import Dispatch

P = ParamSpec("P")
R = TypeVar("R")


@overload
def run(function: Callable[P, R], /) -> RemoteFunction[P, R]: ...


# Editors that know nothing of `Unpack` show these; tests/option_docs.py writes them.
@overload
def run(
    *,
    accelerator: str | Sequence[str] = ...,
    strategy: Literal["in_order", "race"] = ...,
    fallback_after_seconds: float = ...,
    on_oom: Literal["larger"] | None = ...,
    hosts: int | None = ...,
    slices: int | None = ...,
    cpu: float | str | None = ...,
    memory: str | None = ...,
    reservation: str | None = ...,
    compute_class: str | None = ...,
    node_pool: str | None = ...,
    zones: str | Sequence[str] | None = ...,
    max_run_duration_seconds: float | None = ...,
    idle_timeout_seconds: float | None = ...,
    stuck_after_seconds: float | None = ...,
    debug: bool = ...,
    profile: bool = ...,
    compile_cache: bool | None = ...,
    rehearse: bool = ...,
    max_cost: float | None = ...,
    container_image: Literal["bundled", "prebuilt"] | str | None = ...,
    base_image_repo: str | None = ...,
    ship_wheels: bool = ...,
    requirements: str | Path | Sequence[str] | None = ...,
    framework: Literal["jax", "none"] | None = ...,
    name: str | None = ...,
    tags: Sequence[str] = ...,
    retries: int = ...,
    retry_delay_seconds: float = ...,
    timeout_seconds: float | None = ...,
    schedule_timeout_seconds: float | None = ...,
    max_preemptions: int | None = ...,
    cache_for: timedelta | float | Literal[True] | None = ...,
    capture_env_vars: Sequence[str] = ...,
    secrets: Mapping[str, str] | None = ...,
    volumes: Mapping[str, Data | str] | None = ...,
    output_dir: str | Path | None = ...,
    output_dir_in_use: Literal["refuse", "wait"] = ...,
    job_variables: Mapping[str, Any] | None = ...,
    project: str | None = ...,
    zone: str | None = ...,
    cluster: str | None = ...,
    dispatch: Dispatch | None = ...,
) -> Callable[[Callable[P, R]], RemoteFunction[P, R]]: ...


@at_api_boundary
def run(function: Callable[..., Any] | None = None, /, **options: Unpack[Options]) -> Any:
    """Make a function run on an accelerator, as a Prefect flow run, in an image of its own.

    Inside a run the decorated function is the plain function: nested calls launch nothing.

    Example:
        ```python
        @kinetic.run(accelerator="l4", timeout_seconds=3600)
        def train(rate: float) -> float: ...

        loss = train(0.1)
        ```

    Args:
        function: The function, when the decorator is used without parentheses.
        accelerator: What to run on, such as `cpu`, `l4` or `tpu-v6e-8`, or a name of the
            project's own for one; `:spot` or `:flex` at its end asks for Spot VMs or
            flex-start. A list names several, of which the run takes the first that can be had.
            What `KINETIC_ACCELERATOR` says by default, and else `cpu`.
        strategy: How a list of accelerators is tried: one after the other (`in_order`,
            default), or all at once, and the first whose pods start wins (`race`).
        fallback_after_seconds: How long each accelerator of a list may be waited for before the
            next is tried (default 600); one that cannot be had is given up at once.
        on_oom: `larger`: a run that died because its host or its chips ran out of memory goes
            on with the next accelerator of the list that has more. None (default) ends it.
        hosts: Nodes of a run on CPUs or GPUs, each with a process that calls the function; on
            this machine as many processes. None for one.
        slices: TPU slices of a run, joined by multislice; None for one.
        cpu: CPUs that each pod asks of its node, as a number or a Kubernetes quantity such as
            `500m`; None for the share of the machine that goes with the accelerator.
        memory: Memory that each pod asks of its node and may use, as a Kubernetes quantity such
            as `64Gi`; None to ask for the share of the machine that goes with the accelerator,
            without a limit.
        reservation: Google Cloud reservation whose machines to use: its name,
            `projects/P/reservations/NAME`, or `any` for whichever fits; None for none.
        compute_class: GKE compute class that the pods ask for; None for none.
        node_pool: GKE node pool to run on; None for any that fits.
        zones: Zones in which the nodes may be; None for all of the cluster's.
        max_run_duration_seconds: For how long nodes of flex-start are asked for, at most seven
            days; None for what their node pool says.
        idle_timeout_seconds: How long the chips of a run may do nothing before it is ended;
            None (default) for ever.
        stuck_after_seconds: How long a run may print nothing while its chips do nothing before
            what all its threads are doing is put into its log; None (default) for ever.
        debug: Whether each host waits for a debugger before it calls the function (debugpy, on
            its own loopback address only); `kinetic runs forward` leads there.
        profile: Whether a profile of the function, as XProf and Perfetto read them, is put
            among its outputs.
        compile_cache: Whether programs that XLA compiles for the run are kept for later runs of
            the same packages on the same accelerator, and found again; None (default) on TPUs
            and GPUs.
        rehearse: Whether a call is refused where the function's rehearsal says that a step does
            not fit the accelerator; one that is out of date is made again first. Retries and
            the runs of a deployment do not ask again. `KINETIC_REHEARSE=0` overrules it.
        max_cost: What a run may cost before it is ended, in US dollars by the list prices that
            are known; it is refused where none is. None (default) for no limit.
        container_image: `bundled` (default, also None), `prebuilt`, or an image URI.
        base_image_repo: Repository of prebuilt base images; None for `KINETIC_BASE_IMAGE_REPO`.
        ship_wheels: Whether prebuilt mode sends every package along, so that pods need no
            package index.
        requirements: A dependency file or a list of requirements; None to find the file.
        framework: What the image is to bring on a cluster: `jax` with what it needs for the
            accelerator, or `none`, so that all of it comes from the requirements. None
            (default) decides by them: on GPUs a project with PyTorch or TensorFlow, and without
            jax, gets none. Nothing of it matters on this machine.
        name: Name of the runs; None for the function's own.
        tags: Tags of the flow runs.
        retries: How often the function is called again after it raised.
        retry_delay_seconds: Pause before each retry.
        timeout_seconds: Limit for the function, all tries together; None for no limit.
        schedule_timeout_seconds: How long a run may wait for its node before it fails with what
            it waits for (default 3600); None for no limit.
        max_preemptions: How often a run that was preempted, evicted or lost with its node
            starts again; None for 3 on Spot VMs and 0 elsewhere. What the function raises is
            never started again by it: that is `retries`.
        cache_for: For how long a result answers further calls of the same function with the
            same arguments, code and dependencies: a `timedelta(days=7)`, or seconds; True for
            as long as it is kept; None (default) for never.
        capture_env_vars: Names of environment variables to take along, or patterns of them such
            as `WANDB_*`; their values are sealed for the run.
        secrets: Variables of the run whose values are secret, and where each comes from:
            `secret-manager:NAME`, `k8s:SECRET/KEY`, `prefect:BLOCK` or `env:VARIABLE`.
        volumes: What the run finds at absolute paths: `kinetic.Data(...)` or its source,
            `pvc:CLAIM[/DIRECTORY][:ro]`, or `scratch:100Gi`.
        output_dir: Where the run's outputs go: a name, a path or `gs://` URI, of which
            `{function}`, `{name}`, `{arguments_hash}` and the names of arguments in braces are
            replaced; it is used as it is, so that a later run finds what is there. None
            (default) for a directory of each run's own.
        output_dir_in_use: What becomes of a run whose `output_dir` another run writes to that
            has not ended: it is refused (default), or waits for that run's end.
        job_variables: Variables of the work pool's job template on a cluster: `cpu`, `memory`,
            `memory_request`, `ephemeral_storage`, `shared_memory` (Kubernetes quantities, such
            as `64Gi`), `queue_name`, `priority_class_name`, `service_account_name`, `labels`,
            `annotations`, `tolerations`, `node_selector`, `affinity`, `topology_spread`,
            `env_from` (Secrets), and `active_deadline_seconds`, `finished_job_ttl`,
            `termination_grace_seconds` (whole seconds), or what an administrator added. What is
            left out is the work pool's default. Nothing of it matters on this machine.
        project: Google Cloud project; None for `KINETIC_PROJECT`.
        zone: Zone of the cluster; None for `KINETIC_ZONE`.
        cluster: GKE cluster, or the name of a saved profile; None for `KINETIC_CLUSTER`.
        dispatch: Who starts runs on a cluster: `client` (this process), `worker` (any stock
            Prefect worker of the work pool), or `auto`; None for `KINETIC_DISPATCH`.

    Returns:
        The function as a `RemoteFunction`.

    Raises:
        UsageError: An option does not exist or has a value that cannot be.
        FunctionNotSupportedError: What is decorated cannot run remotely.
    """
    chosen = RunOptions().updated(options)

    @at_api_boundary
    def decorate(target: Callable[..., Any]) -> Any:
        _refuse_unsupported(target)
        check_together(target, chosen, options)
        resolve_local_names(target)
        if load_settings().inside_run:
            return as_inside_run(target)
        return RemoteFunction(target, with_accelerator(chosen, target))

    return decorate if function is None else decorate(function)


spell_out(run, Options, RunOptions.defaults())


def _refuse_unsupported(target: Any) -> None:
    """Refuse what cannot run remotely, with the remedy.

    Raises:
        FunctionNotSupportedError: It cannot.
    """
    problem = _problem(target)
    if problem:
        what, hint = problem
        raise FunctionNotSupportedError(
            f"@kinetic.run cannot be applied to {what}", value=target, hint=hint
        )


def _problem(target: Any) -> tuple[str, str] | None:
    if isinstance(target, classmethod | staticmethod):
        kind = type(target).__name__
        return f"a {kind} object", f"put @{kind} above @kinetic.run, so that it is applied last"
    if inspect.isclass(target):
        return f"the class {target.__name__}", "decorate a function or a method"
    if isinstance(target, str):
        return f"the text {target!r:.100}", f"options have names: accelerator={target!r:.100}"
    if not callable(target):
        return f"{target!r}, which is not callable", "decorate a function"
    if hasattr(target, "cache_info") and hasattr(target, "cache_clear"):
        return (
            "a functools.cache wrapper, whose cache would stay behind",
            "put @functools.cache above @kinetic.run to cache results here, or cache inside",
        )
    function = target.fn if is_flow(target) else target
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        return (
            f"the generator function {target.__name__}, whose values cannot be streamed back",
            "collect them inside the function and return a list",
        )
    return None
