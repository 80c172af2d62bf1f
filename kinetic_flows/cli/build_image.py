"""`kinetic build-image`: base images of one's own, in a registry of one's own."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from kinetic_flows.cli.build_image_answers import Answers
from kinetic_flows.cli.build_image_questions import ask_docker_hub_login, ask_parameters
from kinetic_flows.cli.build_image_report import (
    print_credentials_note,
    print_dry_run,
    print_outcomes,
    print_setup,
    print_summary,
    say,
)
from kinetic_flows.cli.documents import error_document, print_json
from kinetic_flows.cli.questions import confirmed, is_terminal
from kinetic_flows.clients.prefect.api import connect
from kinetic_flows.clients.prefect.deployment_runs import (
    ending_error,
    start_deployment,
    state_changes,
)
from kinetic_flows.clients.prefect.flow_names import BUILD_IMAGE_FLOW
from kinetic_flows.core.display import for_terminal
from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.core.settings.settings import load_settings, process_environment
from kinetic_flows.core.terminal import terminal_progress
from kinetic_flows.platforms.gke.builds.base_images import given_docker_hub_login
from kinetic_flows.runs.session import prefect_api_url

if TYPE_CHECKING:
    from kinetic_flows.clients.prefect.api import PrefectApi, RunRecord
    from kinetic_flows.core.progress import Progress
    from kinetic_flows.flows import build_image as flow
    from kinetic_flows.flows.build_image import BaseImagesPlan, BuildImageParameters
    from kinetic_flows.images.base_image_specs import ExistingImage
else:
    flow = LazyModule("kinetic_flows.flows.build_image")


_Flag = Annotated[bool, Parameter(negative=())]
_Several = Annotated[list[str] | None, Parameter(negative=())]


def build_image(
    *,
    repo: str | None = None,
    category: _Several = None,
    tag: str | None = None,
    dockerfile: Path | None = None,
    python: _Several = None,
    controller: _Flag = False,
    no_cache: _Flag = False,
    update_credentials: _Flag = False,
    yes: Annotated[bool, Parameter(alias="-y", negative=())] = False,
    dry_run: _Flag = False,
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
    deployment: str | None = None,
    detach: _Flag = False,
    project: str | None = None,
    cluster: str | None = None,
) -> None:
    """Make base images in a repository of Artifact Registry or on Docker Hub.

    Without --repo it asks. Afterwards set KINETIC_BASE_IMAGE_REPO to the repository.

    Args:
        repo: Image repository, such as us-docker.pkg.dev/my-project/kinetic-base or
            my-name/kinetic.
        category: Accelerator category to build: cpu, gpu or tpu, or gpu-lean (cpu-lean,
            tpu-lean) for its base without any framework; repeat for several; the first three by
            default.
        tag: Version tag of the images; the version of kinetic-flows by default.
        dockerfile: A Dockerfile of your own. It must install uv, cloudpickle and
            google-cloud-storage, and COPY remote_runner.py to /app/.
        python: Python minor version; repeat for several: the first one gets the plain tag. By
            default the version of this Python.
        controller: Build the image that kinetic-flows' own scheduled flows run in.
        no_cache: Make what exists already, from the newest image of Python; a Dockerfile is
            built without any layer of an earlier build.
        update_credentials: Enter the Docker Hub credentials anew.
        yes: Do not ask for confirmation.
        dry_run: Print names and packages, of a Dockerfile its text and the build's steps, and do
            nothing.
        as_json: Print what was made as JSON.
        deployment: Have a Prefect deployment do it, such as rebuild-base-images, and wait for
            the end of its run; Ctrl-C leaves the run going.
        detach: With --deployment, return when the run was asked for, and print its id and
            where to watch it.
        project: Google Cloud project; KINETIC_PROJECT by default.
        cluster: GKE cluster, or the name of a profile; KINETIC_CLUSTER by default.
    """
    environ = process_environment()
    progress = terminal_progress(load_settings(environ).progress, environ)
    parameters = flow.BuildImageParameters(
        repository=repo or "",
        categories=category,
        tag=tag,
        pythons=python,
        dockerfile=str(dockerfile.resolve()) if dockerfile else None,
        no_cache=no_cache,
        controller=controller,
        project=project,
        cluster=cluster,
    )
    if deployment is not None:
        _check_for_deployment(parameters, update_credentials=update_credentials, dry_run=dry_run)
        api_url = prefect_api_url(load_settings(environ), environ, progress)
        run_deployment(api_url, deployment, parameters, detach=detach, as_json=as_json)
        return
    if detach:
        raise UsageError(
            "--detach goes with --deployment alone",
            hint="without a deployment the builds are followed from here",
        )
    if repo is None:
        parameters = _questions(parameters, environ)
    answers = Answers(parameters=parameters, were_asked=repo is None)
    plan = answers.kept(lambda: flow.plan_base_images(parameters, environ, progress))
    if dry_run:
        print_dry_run(plan, as_json=as_json)
        return
    answers.kept(lambda: _settle_credentials(plan, environ, update=update_credentials))
    existing_images = answers.kept(lambda: _look_up(plan, may_ask=not yes))
    to_make = [existing.spec for existing in existing_images if existing.has_to_be_made]
    previews = answers.kept(lambda: plan.platform.preview(to_make))
    print_summary(plan, existing_images, previews)
    try:
        if to_make and not yes:
            _confirm()
        _run(plan, parameters, environ, progress, as_json=as_json)
    finally:
        answers.print_command()


def _look_up(plan: BaseImagesPlan, *, may_ask: bool) -> Sequence[ExistingImage]:
    """Return what the repository has, made before if that is wanted."""
    repository = plan.request.repository
    setup = plan.platform.setup(repository)
    if setup is not None and not setup.exists and may_ask and is_terminal():
        say(f"there is no repository {repository} yet")
        if confirmed("Create it?", undone="it was not created"):
            plan.platform.create_repository(repository)
            say(f"{repository}: created")
            setup = plan.platform.setup(repository)
    print_setup(setup)
    return plan.platform.look_up(plan.specs)


def _run(
    plan: BaseImagesPlan,
    parameters: BuildImageParameters,
    environ: Mapping[str, str],
    progress: Progress,
    *,
    as_json: bool,
) -> None:
    try:
        outcomes = flow.run_here(parameters, environ, progress)
    except flow.BaseImagesFailed as failure:
        print_outcomes(failure.outcomes, plan.request, as_json=as_json)
        raise
    print_outcomes(outcomes, plan.request, as_json=as_json)


def _questions(
    parameters: BuildImageParameters, environ: Mapping[str, str]
) -> BuildImageParameters:
    if not is_terminal():
        raise UsageError(
            "--repo is missing, and there is no terminal to ask for it",
            hint="give it, such as --repo us-docker.pkg.dev/my-project/kinetic-base, and --yes",
        )
    return ask_parameters(parameters, environ)


def _settle_credentials(plan: BaseImagesPlan, environ: Mapping[str, str], *, update: bool) -> None:
    """See that Docker Hub's credentials are there, and good; ask for them where they are not."""
    if not plan.on_docker_hub:
        return
    if not update and plan.platform.docker_hub.exists():
        plan.platform.check_docker_hub()
        return
    credentials = given_docker_hub_login(environ)
    if credentials is None:
        if not is_terminal():
            raise UsageError(
                "Docker Hub's user name and access token are not stored yet, and there is no "
                "terminal to ask for them",
                hint="set KINETIC_DOCKERHUB_USERNAME and KINETIC_DOCKERHUB_TOKEN",
            )
        credentials = ask_docker_hub_login()
    plan.platform.store_docker_hub(credentials)
    print_credentials_note(plan)


def _check_for_deployment(
    parameters: BuildImageParameters, *, update_credentials: bool, dry_run: bool
) -> None:
    """See that nothing is asked of a deployment that only this machine can do."""
    if parameters.dockerfile is not None:
        raise UsageError(
            "--dockerfile and --deployment do not go together",
            value=parameters.dockerfile,
            hint="the deployment runs where this file is not; build it from here",
        )
    for option, is_given in (
        ("--update-credentials", update_credentials),
        ("--dry-run", dry_run),
    ):
        if is_given:
            raise UsageError(
                f"{option} and --deployment do not go together",
                value=option,
                hint=f"leave one of them out: {option} is about this machine",
            )


def _confirm() -> None:
    if not confirmed("Build and push these images?", undone="nothing was built"):
        print("nothing was built", file=sys.stderr)
        raise SystemExit(1)


def run_deployment(
    api_url: str,
    name: str,
    parameters: BuildImageParameters,
    *,
    detach: bool,
    as_json: bool,
) -> None:
    """Ask a deployment for a run; what is not given is as the deployment has it.

    Args:
        api_url: The Prefect API.
        name: The deployment, with or without its flow.
        parameters: What is given.
        detach: Return at once.
        as_json: Print a JSON object.

    Raises:
        UsageError: There is no such deployment, or it does not take these parameters.
        RunError: The run has ended without all images.
    """
    given = {key: value for key, value in asdict(parameters).items() if value}
    full_name = name if "/" in name else f"{BUILD_IMAGE_FLOW}/{name}"
    run_id, url = start_deployment(api_url, full_name, given)
    if detach:
        if as_json:
            print_json({"id": run_id, "url": url})
        else:
            print(for_terminal(f"{run_id}\n{url}"))
        return
    say(f"{full_name} was asked for run {run_id}\n  watch it at {url}")
    try:
        with connect(api_url) as api:
            ended = _watched(api, run_id)
    except KeyboardInterrupt:
        say(
            f"\nrun {run_id} goes on\n"
            f"  look at it with: kinetic runs show {run_id}\n"
            f"  cancel it with: kinetic prefect flow-run cancel {run_id}"
        )
        raise
    error = ending_error(ended, url)
    if as_json:
        told = {"id": run_id, "url": url, "state": ended.state_name}
        print_json(error_document(error, **told) if error else told)
    if error is not None:
        raise error
    if not as_json:
        print(f"run {run_id} has made the base images: {url}")


def _watched(api: PrefectApi, run_id: str) -> RunRecord:
    """Tell of each state of a run as it comes, and return its last one."""
    for record in state_changes(api, run_id):
        told = f"{record.state_name}: {record.message}" if record.message else record.state_name
        say(f"  {told}")
        if record.state_name == "Late" and record.work_pool:
            say(
                "  no worker has taken it yet; where none runs, start one with: "
                f"kinetic worker start {shlex.quote(record.work_pool)}"
            )
        sys.stderr.flush()
    return record
