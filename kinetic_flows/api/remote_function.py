"""A remote function: what `@kinetic.run` makes of a function.

Nothing heavy is imported before it is called, submitted or planned.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, Unpack, cast, overload

from kinetic_flows.api.accelerator_names import with_accelerator
from kinetic_flows.api.rehearsed import Rehearsed
from kinetic_flows.api.uses import documentation
from kinetic_flows.core import option_values as check
from kinetic_flows.core.api_boundary import at_api_boundary
from kinetic_flows.core.functions import flow_name, is_async, is_found_by_name
from kinetic_flows.core.interruption import in_thread
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.core.option_list import Options
from kinetic_flows.core.options import RunOptions, check_together
from kinetic_flows.core.public_names import public, without_attribute
from kinetic_flows.core.signatures import spell_out
from kinetic_flows.plans.inputs import Inputs, MapOptions, SweepOptions, sweep_options

if TYPE_CHECKING:
    from datetime import timedelta

    from prefect import Flow
    from prefect.schedules import Schedule

    from kinetic_flows.api import drafts, front
    from kinetic_flows.api.deployment import Deployment
    from kinetic_flows.api.run import Run
    from kinetic_flows.api.run_group import RunGroup
    from kinetic_flows.flows import run as run_flow
    from kinetic_flows.plans.plan import RunPlan
else:
    drafts = LazyModule("kinetic_flows.api.drafts")
    front = LazyModule("kinetic_flows.api.front")
    run_flow = LazyModule("kinetic_flows.flows.run")

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


@public
class RemoteFunction(Rehearsed, Generic[P, R]):
    """A function that runs elsewhere when called; `.fn` is the plain function.

    Example:
        ```python
        @kinetic.run(accelerator="tpu-v6e-8")
        def train(rate: float) -> float: ...

        loss = train(0.1)  # runs there, shows its output here, and returns its value
        run = train.submit(0.1)  # goes on without this process
        losses = train.map([0.1, 0.2]).results()
        print(train.plan(0.1))  # what a call would do
        ```

    It pickles as itself. Only what is pickled for a run of ours becomes the plain function.

    Args:
        fn: The plain function.
        options: How it runs.
        bound: Arguments put in front of every call's: the instance, for a method.
        rehearsed: What names the steps that it compiles; None for nothing.
    """

    def __init__(
        self,
        fn: Callable[P, R],
        options: RunOptions,
        bound: tuple[Any, ...] = (),
        rehearsed: Callable[..., Any] | None = None,
    ) -> None:
        functools.update_wrapper(self, fn)
        self.fn = fn
        self.options = options
        self._bound = bound
        self.rehearsed = rehearsed
        self.__doc__ = documentation(fn, options.accelerator_words)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            return without_attribute(self, name)

    def __get__(self, instance: object, owner: type | None = None) -> RemoteFunction[..., R]:
        if instance is None:
            return self
        return RemoteFunction(self.fn, self.options, (instance,), self.rehearsed)

    @at_api_boundary
    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function remotely, show its output, and return its value.

        For a coroutine function this returns an awaitable, as the plain function does; when
        the task that awaits it is cancelled, so is the run.

        Raises:
            Exception: What the function raised, with the remote traceback as a note.
            KineticError: The run could not be planned, built, launched or followed.
        """
        given = (*self._bound, *args)
        if is_async(self.fn):
            return cast("R", in_thread(functools.partial(front.call, self, given, kwargs)))
        return cast("R", front.call(self, given, kwargs))

    @overload
    def submit(
        self: RemoteFunction[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Run[T]: ...

    @overload
    def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> Run[R]: ...

    @at_api_boundary
    def submit(self, /, *args: Any, **kwargs: Any) -> Any:
        """Launch the function and return the handle of its run, without waiting for its end.

        Returns when the run is launched: from then on it does not need this process.

        Raises:
            KineticError: The run could not be planned, built or launched.
        """
        return front.submit(self, (*self._bound, *args), kwargs)

    @overload
    def map(
        self: RemoteFunction[P, Coroutine[Any, Any, T]],
        inputs: Iterable[Any],
        *,
        return_exceptions: bool = False,
        **options: Unpack[MapOptions],
    ) -> RunGroup[T]: ...

    @overload
    def map(
        self,
        inputs: Iterable[Any],
        *,
        return_exceptions: bool = False,
        **options: Unpack[MapOptions],
    ) -> RunGroup[R]: ...

    @at_api_boundary
    def map(
        self,
        inputs: Iterable[Any],
        *,
        return_exceptions: bool = False,
        **options: Unpack[MapOptions],
    ) -> Any:
        """Run the function once for each input: one plan, one image, one upload of the code.

        Each input becomes a flow run of its own under one flow run `kinetic-map`. Returns when
        what they share is made; the inputs are launched from here as others end.

        Args:
            inputs: What to call the function with; taken as runs become possible, so that a
                generator of any length will do.
            return_exceptions: Whether `results()` returns exceptions in place of values.
            max_concurrent: How many runs there are at a time, at most; 64 by default.
            retries: How often an input whose run failed or crashed is run again, as a new
                run; 0 by default. The function's own `retries` come first, within a run.
            fail_fast: Whether the first input that fails ends the others.
            on_interrupt: What Ctrl-C, or another interruption of this program, does to the
                runs that have not ended: `cancel` (default), or `detach`, which lets those go
                on that are launched. Inputs that are not launched never are, either way.
            input_mode: What an input is: `single`, the one argument; `args`, a tuple of
                positional arguments; `kwargs`, a mapping of keyword arguments; `auto`
                (default), by its type: tuple, mapping, anything else the one argument.
            work_queue: The work queue of the function's work pool whose workers start the
                inputs. All are handed over at once, and the queue's limit, which is set to
                `max_concurrent`, holds whatever becomes of this program. None: this program
                launches them as others end.
            max_cost: What all runs together may cost before those that go on are cancelled
                and nothing more is launched, in US dollars by the list prices that are known;
                it is refused where none is. None (default) for no limit.

        Raises:
            UsageError: An option, or an input of a sequence, cannot be.
            KineticError: What the runs share could not be planned, built or uploaded.
        """
        check.flag("return_exceptions", return_exceptions)
        chosen = sweep_options(options)
        given = Inputs(inputs, chosen.input_mode, self.fn, self._bound)
        given.check()
        return front.start_map(
            self, self._bound, given, chosen, return_exceptions=return_exceptions
        )

    @at_api_boundary
    def plan(self, /, *args: P.args, **kwargs: P.kwargs) -> RunPlan:
        """Decide everything about a call and do nothing of it.

        Reads files and stored locks and runs uv; writes only caches under `KINETIC_HOME`.
        Arguments may be left out: they change nothing but the payload.

        Raises:
            KineticError: The call cannot be planned.
        """
        return drafts.plan(self, (*self._bound, *args), kwargs)

    @at_api_boundary
    def deploy(
        self,
        name: str,
        *,
        cron: str | None = None,
        interval: timedelta | float | None = None,
        rrule: str | None = None,
        schedules: Sequence[Schedule] = (),
        timezone: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        paused: bool | None = None,
        tags: Sequence[str] = (),
        concurrency_limit: int | None = None,
        image_refresh: bool = False,
    ) -> Deployment[R]:
        """Make a Prefect deployment, whose runs need neither this machine nor this project.

        Packages and builds now; the runs start the pod directly, with image, code and function
        fixed by digest, whenever a schedule says so, somebody fills in the form in Prefect's
        UI, or `kinetic deployments run` is called. What they are called with is checked against
        the function's signature. Deploying an unchanged function again changes nothing.

        Args:
            name: The deployment's name: `kinetic deployments run FUNCTION/NAME` starts it.
            cron: Five fields, such as `0 2 * * *`.
            interval: Time between two starts; a number counts seconds.
            rrule: A recurrence rule of RFC 5545.
            schedules: Several schedules, made with `prefect.schedules`.
            timezone: IANA name of the time zone of cron, interval or rrule; None for UTC.
            parameters: What its runs are called with when nothing else is said.
            paused: Whether its schedules rest; None to leave that as it is.
            tags: Further tags of its runs.
            concurrency_limit: How many of its runs go on at once; None for any number.
            image_refresh: Whether to resolve the dependencies again, for newer releases than
                those that the stored lock names.

        Raises:
            UsageError: The request cannot be; nothing was built.
            KineticError: The function could not be planned, built or deployed.
        """
        return front.deploy(
            self,
            self._bound,
            name=name,
            timing={
                "cron": cron,
                "interval": interval,
                "rrule": rrule,
                "schedules": schedules,
                "timezone": timezone,
            },
            parameters=parameters,
            paused=paused,
            tags=tags,
            concurrency_limit=concurrency_limit,
            image_refresh=image_refresh,
        )

    @at_api_boundary
    def with_options(self, **changes: Unpack[Options]) -> RemoteFunction[P, R]:
        """Return the same function with some options changed; this one stays as it is.

        Args:
            accelerator: What to run on, such as `cpu`, `l4` or `tpu-v6e-8`, or a name of the
                project's own for one; `:spot` or `:flex` at its end asks for Spot VMs or
                flex-start. A list names several, of which the run takes the first that can be
                had. What `KINETIC_ACCELERATOR` says by default, and else `cpu`.
            strategy: How a list of accelerators is tried: one after the other (`in_order`,
                default), or all at once, and the first whose pods start wins (`race`).
            fallback_after_seconds: How long each accelerator of a list may be waited for before
                the next is tried (default 600); one that cannot be had is given up at once.
            on_oom: `larger`: a run that died because its host or its chips ran out of memory
                goes on with the next accelerator of the list that has more. None (default) ends
                it.
            hosts: Nodes of a run on CPUs or GPUs, each with a process that calls the function;
                on this machine as many processes. None for one.
            slices: TPU slices of a run, joined by multislice; None for one.
            cpu: CPUs that each pod asks of its node, as a number or a Kubernetes quantity such
                as `500m`; None for the share of the machine that goes with the accelerator.
            memory: Memory that each pod asks of its node and may use, as a Kubernetes quantity
                such as `64Gi`; None to ask for the share of the machine that goes with the
                accelerator, without a limit.
            reservation: Google Cloud reservation whose machines to use: its name,
                `projects/P/reservations/NAME`, or `any` for whichever fits; None for none.
            compute_class: GKE compute class that the pods ask for; None for none.
            node_pool: GKE node pool to run on; None for any that fits.
            zones: Zones in which the nodes may be; None for all of the cluster's.
            max_run_duration_seconds: For how long nodes of flex-start are asked for, at most
                seven days; None for what their node pool says.
            idle_timeout_seconds: How long the chips of a run may do nothing before it is ended;
                None (default) for ever.
            stuck_after_seconds: How long a run may print nothing while its chips do nothing
                before what all its threads are doing is put into its log; None (default) for
                ever.
            debug: Whether each host waits for a debugger before it calls the function (debugpy,
                on its own loopback address only); `kinetic runs forward` leads there.
            profile: Whether a profile of the function, as XProf and Perfetto read them, is put
                among its outputs.
            compile_cache: Whether programs that XLA compiles for the run are kept for later
                runs of the same packages on the same accelerator, and found again; None
                (default) on TPUs and GPUs.
            rehearse: Whether a call is refused where the function's rehearsal says that a step
                does not fit the accelerator; one that is out of date is made again first.
                Retries and the runs of a deployment do not ask again. `KINETIC_REHEARSE=0`
                overrules it.
            max_cost: What a run may cost before it is ended, in US dollars by the list prices
                that are known; it is refused where none is. None (default) for no limit.
            container_image: `bundled` (default, also None), `prebuilt`, or an image URI.
            base_image_repo: Repository of prebuilt base images; None for
                `KINETIC_BASE_IMAGE_REPO`.
            ship_wheels: Whether prebuilt mode sends every package along, so that pods need no
                package index.
            requirements: A dependency file or a list of requirements; None to find the file.
            framework: What the image is to bring on a cluster: `jax` with what it needs for the
                accelerator, or `none`, so that all of it comes from the requirements. None
                (default) decides by them: on GPUs a project with PyTorch or TensorFlow, and
                without jax, gets none. Nothing of it matters on this machine.
            name: Name of the runs; None for the function's own.
            tags: Tags of the flow runs.
            retries: How often the function is called again after it raised.
            retry_delay_seconds: Pause before each retry.
            timeout_seconds: Limit for the function, all tries together; None for no limit.
            schedule_timeout_seconds: How long a run may wait for its node before it fails with
                what it waits for (default 3600); None for no limit.
            max_preemptions: How often a run that was preempted, evicted or lost with its node
                starts again; None for 3 on Spot VMs and 0 elsewhere. What the function raises
                is never started again by it: that is `retries`.
            cache_for: For how long a result answers further calls of the same function with the
                same arguments, code and dependencies: a `timedelta(days=7)`, or seconds; True
                for as long as it is kept; None (default) for never.
            capture_env_vars: Names of environment variables to take along, or patterns of them
                such as `WANDB_*`; their values are sealed for the run.
            secrets: Variables of the run whose values are secret, and where each comes from:
                `secret-manager:NAME`, `k8s:SECRET/KEY`, `prefect:BLOCK` or `env:VARIABLE`.
            volumes: What the run finds at absolute paths: `kinetic.Data(...)` or its source,
                `pvc:CLAIM[/DIRECTORY][:ro]`, or `scratch:100Gi`.
            output_dir: Where the run's outputs go: a name, a path or `gs://` URI, of which
                `{function}`, `{name}`, `{arguments_hash}` and the names of arguments in braces
                are replaced; it is used as it is, so that a later run finds what is there. None
                (default) for a directory of each run's own.
            output_dir_in_use: What becomes of a run whose `output_dir` another run writes to
                that has not ended: it is refused (default), or waits for that run's end.
            job_variables: Variables of the work pool's job template on a cluster: `cpu`,
                `memory`, `memory_request`, `ephemeral_storage`, `shared_memory` (Kubernetes
                quantities, such as `64Gi`), `queue_name`, `priority_class_name`,
                `service_account_name`, `labels`, `annotations`, `tolerations`, `node_selector`,
                `affinity`, `topology_spread`, `env_from` (Secrets), and
                `active_deadline_seconds`, `finished_job_ttl`, `termination_grace_seconds`
                (whole seconds), or what an administrator added. What is left out is the work
                pool's default. Nothing of it matters on this machine.
            project: Google Cloud project; None for `KINETIC_PROJECT`.
            zone: Zone of the cluster; None for `KINETIC_ZONE`.
            cluster: GKE cluster, or the name of a saved profile; None for `KINETIC_CLUSTER`.
            dispatch: Who starts runs on a cluster: `client` (this process), `worker` (any stock
                Prefect worker of the work pool), or `auto`; None for `KINETIC_DISPATCH`.

        Raises:
            UsageError: An option does not exist or has a value that cannot be.
        """
        options = self.options.updated(changes)
        check_together(self.fn, options, changes)
        chosen = with_accelerator(options, self.fn)
        return RemoteFunction(self.fn, chosen, self._bound, self.rehearsed)

    def as_flow(self) -> Flow[P, R]:
        """Return a Prefect flow that launches the function remotely and returns its value.

        For `prefect deploy`, `.serve()` and flows of flows. It launches once: Prefect's default
        for retries is not for what has retries of its own; `.with_options(retries=...)` is.
        """
        return run_flow.as_flow(self, self.fn, self._name)

    @property
    def _name(self) -> str:
        return flow_name(self.fn, self.options.name)

    def __reduce__(self) -> str | tuple[Any, ...]:
        # As itself, in whatever process: only what is pickled for a run is the plain function.
        if not self._bound and is_found_by_name(self, self.fn):
            return self.fn.__qualname__
        also = (self.rehearsed,) if self.rehearsed else ()
        return RemoteFunction, (self.fn, self.options, self._bound, *also)

    def __repr__(self) -> str:
        return f"<RemoteFunction {self._name} on {self.options.accelerator_words}>"


spell_out(RemoteFunction.map, MapOptions, asdict(SweepOptions()))
spell_out(RemoteFunction.with_options, Options, {})
