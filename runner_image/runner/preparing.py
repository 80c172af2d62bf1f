"""What is done before the function is called: everything the job names is brought here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

from .contract import places_of
from .devices import DeviceCheck, package_places
from .fetching import fetch_to_file
from .hosts import host_variables
from .identity import check_python, environment_of_function
from .naming import run_name
from .output import Output
from .outputs import output_directory
from .parameters import read_call
from .phases import Phases
from .prefect_api import PrefectApi
from .reporter import Reporter, SilentReporter
from .stores import BucketStore, DirectoryStore

if TYPE_CHECKING:
    from .compile_cache import CompileCache


class Start(NamedTuple):
    """One start of a run, as it is prepared.

    Attributes:
        job: The job.
        environ: This process's environment.
        store: Where the job's objects are.
        client: A `google.cloud.storage.Client`; None where the store needs none.
        scratch: An empty directory, gone after the run.
        lasting: A directory that every start in this process has, gone after the run.
        leaving: Takes what is to be done when this process has ended the run.
        host: Number of this host.
        attempt: How often the run was started before.
        output: Takes what is said of the run.
        reporter: Told of labels and of the run's name.
        api: Prefect; None for a run that reports nowhere.
    """

    job: Mapping[str, Any]
    environ: Mapping[str, str]
    store: DirectoryStore | BucketStore
    client: Any
    scratch: str
    lasting: str
    leaving: ExitStack
    host: int
    attempt: int
    output: Output
    reporter: Reporter | SilentReporter
    api: PrefectApi | None

    @property
    def is_flow(self) -> bool:
        """Whether the function is a Prefect flow, whose engine sets the states."""
        return is_flow(self.job)


class Prepared(NamedTuple):
    """What the function's process is started with.

    Attributes:
        task: What it is told.
        environ: Its environment.
        handed: What it is told of secrets, which stands in no file.
        compiled: Compiled programs; None for a run that keeps none.
    """

    task: Mapping[str, Any]
    environ: Mapping[str, str]
    handed: Mapping[str, Any]
    compiled: CompileCache | None


def is_flow(job: Mapping[str, Any]) -> bool:
    """Whether a job's function is a Prefect flow, whose engine sets the states."""
    return bool(job["prefect"] and job["prefect"].get("engine"))


def prepare(start: Start) -> Prepared:
    """Bring everything the job names here, checked; nothing of it is run or unpickled.

    Raises:
        Fault: Something of it is not there, is not what the job says, or does not fit.
        OSError: The scratch directory cannot be written to.
    """
    job = start.job
    check_python(job["python"])
    handed = _open_secrets(start)
    compiled = _bring_compiled(start, handed)
    devices = DeviceCheck(start.environ)
    phases = Phases()
    parameters = _parameters(start)
    # Before anything is fetched: another run may write there.
    outputs = output_directory(start, parameters)
    workspace = os.path.join(start.scratch, "workspace")
    os.mkdir(workspace)
    payload = os.path.join(start.scratch, "payload.pkl")
    with phases.measure("fetch"):
        fetch_to_file(start.store, job["payload"], payload)
        pieces = _fetch_pieces(start, payload)
    distributions = _bring_code(start, workspace, phases)
    packages = _bring_packages(start, phases)
    data = _bring_data(start, phases, handed.get("variables", {}))
    mounts = _have_volumes(start, data)
    if start.host == 0:
        start.reporter.label(phases.labels())
    start.output.show_paths(workspace, places_of(job["code"])["root"])
    brought = {
        **places_of(job["code"]),
        "workspace": workspace,
        "payload": payload,
        "pieces": pieces,
        "parameters": parameters,
        "distributions": distributions,
        "packages": packages.packages,
        "scripts": packages.scripts,
        "data": data,
        "mounts": mounts,
        "debug": _bring_debugger(start),
        # Jobs that were written by earlier clients do not say.
        "profile": start.job.get("profile", False),
        "rehearsal": start.job.get("rehearsal"),
    }
    devices.finish(package_places(brought))
    environ = {**start.environ, **packages.variables, **(compiled.variables if compiled else {})}
    task = {
        "parent": os.getpid(),
        "name": job["name"],
        "variables": _variables(start, environ, outputs),
        "flow_run_id": (job["prefect"] or {}).get("flow_run_id"),
        "is_flow": start.is_flow,
        "compiled": compiled.told if compiled else None,
        **brought,
    }
    own = environment_of_function(environ, job, is_flow=start.is_flow)
    return Prepared(task, own, handed, compiled)


class _Packages(NamedTuple):
    """Where packages are besides the image's own; None where there are none."""

    packages: str | None = None
    scripts: str | None = None
    variables: Mapping[str, str] = {}


def _open_secrets(start: Start) -> dict[str, Any]:
    """Return what the function's process is told of secrets; from here on output hides them."""
    # Jobs that were written by earlier clients do not say.
    if not start.job.get("secrets"):
        return {}
    from .secret_values import Around, masked_values, open_secrets

    around = Around(start.environ, start.store, start.api, start.output.say)
    secrets = open_secrets(start.job, around)
    masked = masked_values(start.job, secrets)
    start.output.mask(masked)
    return {"variables": secrets, "masked": masked}


def _bring_compiled(start: Start, handed: Mapping[str, Any]) -> CompileCache | None:
    """Have compiled programs brought here from now on; nothing waits for them before JAX does."""
    # Jobs that were written by earlier clients do not say.
    if not start.job.get("compile_cache"):
        return None
    from .compile_cache import compile_cache_of

    return compile_cache_of(start, handed)


def _bring_code(start: Start, workspace: str, phases: Phases) -> str | None:
    """Restore the project's code; return where its own distributions are described."""
    code = start.job["code"]
    if not code:
        return None
    from .restoring import restore_code, write_distributions

    with phases.measure("fetch"):
        restore_code(start.store, code, workspace, start.scratch)
    return write_distributions(code, start.scratch)


def _bring_packages(start: Start, phases: Phases) -> _Packages:
    """Install the requirements, or find them where they are mounted."""
    requirements = start.job["requirements"]
    if requirements:
        from .requirements import install_requirements

        with phases.measure("install"):
            packages = install_requirements(
                start.store, requirements, start.scratch, start.output.say
            )
        return _Packages(packages, os.path.join(packages, "bin"))
    # Jobs that were written by earlier clients do not say.
    if start.job.get("packages"):
        from .packages import mounted_packages

        mounted = mounted_packages(start.job["packages"], start.environ)
        start.output.say("the project's packages are mounted: nothing is installed")
        return _Packages(*mounted)
    return _Packages()


def _bring_data(start: Start, phases: Phases, secrets: Mapping[str, str]) -> list[str]:
    """Bring the job's data here; return where each is."""
    # Jobs that were written by earlier clients do not say.
    data = start.job.get("data")
    if not data:
        return []
    from .data import Around, bring_data
    from .volumes import own_directories

    around = Around(
        store=start.store,
        client=start.client,
        # A hub is shown a token.
        environ={**start.environ, **secrets},
        scratch=start.lasting,
        say=start.output.say,
        leaving=start.leaving,
    )
    with phases.measure("data"):
        return bring_data(data, around, own_directories(start.job, start.environ))


def _bring_debugger(start: Start) -> dict[str, Any] | None:
    """Return how the function's process waits for a debugger; None where it does not."""
    # Jobs that were written by earlier clients do not say.
    spec = start.job.get("debug")
    if not spec:
        return None
    from .debugging import FIRST_PORT, bring_debugger

    wheel = spec["wheel"]
    return {
        "packages": bring_debugger(start.store, wheel, start.scratch) if wheel else None,
        "wait_seconds": spec["wait_seconds"],
        "port": FIRST_PORT + start.host,
        "run_id": start.job["run_id"],
        "host": start.host,
        "hosts": start.job["hosts"],
        "is_here": start.environ.get("KINETIC_JOB", "").startswith("file:"),
    }


def _have_volumes(start: Start, data: list[str]) -> list[dict[str, Any]]:
    """See to the job's volumes; return what the function's process mounts for itself."""
    # Jobs that were written by earlier clients do not say.
    volumes = start.job.get("volumes")
    if not volumes:
        return []
    from .volumes import Place, have_volumes

    place = Place(
        environ=start.environ,
        scratch=start.lasting,
        say=start.output.say,
        leaving=start.leaving,
    )
    return have_volumes(volumes, data, place)


def _fetch_pieces(start: Start, payload: str) -> str:
    """Fetch the parts of the call that are objects of their own; return where they are."""
    directory = os.path.join(start.scratch, "pieces")
    os.mkdir(directory)
    if start.job["pieces"]:
        from .payload import read_payload
        from .pieces import fetch_pieces

        fetch_pieces(start.store, start.job["pieces"], read_payload(payload), directory)
    return directory


def _parameters(start: Start) -> dict[str, Any] | None:
    """Return what the function is called with besides its payload; None for nothing."""
    spec = start.job["prefect"]
    # Jobs that were written by earlier clients do not say.
    if start.api is None or not spec.get("parameters"):
        return None
    name, parameters = read_call(start.api, start.output.say)
    start.reporter.rename(name, run_name(start.job["name"], parameters))
    return parameters


def _variables(start: Start, environ: Mapping[str, str], outputs: str) -> dict[str, str]:
    """Return the variables that tell the function of its run."""
    return {
        **host_variables(start.host, start.job["hosts"], environ),
        "KINETIC_RUN_ID": start.job["run_id"],
        "KINETIC_OUTPUT_DIR": outputs,
        "KINETIC_RESTART_COUNT": str(start.attempt),
    }
