"""The output of `kinetic build-image`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from kinetic_flows.cli.documents import print_json
from kinetic_flows.cli.tables import print_table
from kinetic_flows.core.accelerators.packages import pins_of
from kinetic_flows.images.assembly.bases import BASE_FILES
from kinetic_flows.images.bases import VARIABLES, BaseInputs
from kinetic_flows.images.dockerfiles import BuildContext
from kinetic_flows.platforms.gke.builds.docker_hub import (
    DOCKER_HUB_TOKEN_SECRET,
    DOCKER_HUB_USERNAME_SECRET,
)

if TYPE_CHECKING:
    from kinetic_flows.core.image_builder import ImagePreview
    from kinetic_flows.flows.build_image import BaseImagesPlan, BuildImageParameters
    from kinetic_flows.flows.build_image_task import BaseOutcome
    from kinetic_flows.images.base_image_specs import (
        BaseImageSpec,
        BaseImagesRequest,
        ExistingImage,
    )
    from kinetic_flows.platforms.gke.builds.artifact_registry import Setup
    from kinetic_flows.platforms.gke.builds.build import BuildStep


def print_summary(
    plan: BaseImagesPlan,
    existing_images: Sequence[ExistingImage],
    previews: Mapping[str, ImagePreview],
) -> None:
    """Print what is going to happen, to standard error.

    Args:
        plan: What is asked for.
        existing_images: What there is.
        previews: How those are made that are not there, by their names.
    """
    say(f"base images for {plan.request.repository}, project {plan.platform.project}:")
    for existing in existing_images:
        spec = existing.spec
        preview = previews.get(spec.name)
        if preview is None:
            digest = existing.image.digest if existing.image else ""
            say(f"  {spec.name}: {spec.references[-1]} holds exactly this: {digest}")
            continue
        say(f"  {spec.name}: {' and '.join(spec.references)}")
        say(f"    {preview}; builder: {preview.who}")
        for reference, digest in existing.replaced.items():
            say(f"    replaces {reference.rpartition('/')[2]} {digest}")


def print_dry_run(plan: BaseImagesPlan, *, as_json: bool) -> None:
    """Print names; of a base its packages, of a Dockerfile what it says and its steps."""
    if as_json:
        print_json([_described(plan, spec) for spec in plan.specs])
        return
    for spec in plan.specs:
        print(f"== {spec.name}: {' '.join(spec.references)}")
        source = spec.source
        if isinstance(source, BuildContext):
            _print_build(source, plan.platform.steps(spec))
        else:
            _print_base(source)
        print()


def _print_build(source: BuildContext, steps: Sequence[BuildStep]) -> None:
    print(f"-- {source.dockerfile}")
    print(_dockerfile(source).rstrip())
    print("-- files: " + " ".join(sorted(source.files)))
    print("-- steps")
    for step in steps:
        print(f"  {_command(step)}")


def _print_base(source: BaseInputs) -> None:
    print(f"-- assembled on {source.upstream}")
    for name, value in VARIABLES[source.category].items():
        print(f"  {name}={value}")
    print("-- packages")
    for pin in pins_of(source.lock):
        print(f"  {pin}")
    print("-- files: " + " ".join(BASE_FILES))


def print_outcomes(
    outcomes: Sequence[BaseOutcome], request: BaseImagesRequest, *, as_json: bool
) -> None:
    """Print what came of each image, and what to set to use them."""
    if as_json:
        content = {
            "images": [asdict(item) for item in outcomes],
            "base_image_repo": request.repository,
            "base_image_tag": request.tag,
        }
        print_json(content)
        return
    rows = [("image", "result", "MB", "seconds", "digest")]
    rows += [
        (
            item.references[-1],
            item.action,
            f"{item.size_bytes / 1e6:.0f}" if item.size_bytes else "",
            f"{item.seconds:.0f}" if item.seconds else "",
            item.digest,
        )
        for item in outcomes
    ]
    print_table(rows)
    if any(item.action != "failed" and item.name != "controller" for item in outcomes):
        print(f"\nto use them:\n  export KINETIC_BASE_IMAGE_REPO={request.repository}")
        if request.tag != request.version:
            print(f"  export KINETIC_BASE_IMAGE_TAG={request.tag}")


def print_setup(setup: Setup | None) -> None:
    """Print what a repository of Artifact Registry still needs."""
    if setup is None or not setup.commands:
        return
    if not setup.exists:
        say("the repository has to be created, and its users let in:")
    elif setup.was_checked:
        say("not granted on the repository; needed unless a role on the project does it:")
    else:
        say("you may not look at the repository's policy; needed unless it is granted already:")
    for command in setup.commands:
        say(f"  {command}")


def print_credentials_note(plan: BaseImagesPlan) -> None:
    """Say where the credentials are now, and who has to be let at them."""
    say(f"Docker Hub's credentials are in Secret Manager of project {plan.platform.project}")
    say("the build's service account has to be allowed to read them, once:")
    for secret in (DOCKER_HUB_USERNAME_SECRET, DOCKER_HUB_TOKEN_SECRET):
        say(
            f"  gcloud secrets add-iam-policy-binding {secret} --project={plan.platform.project} "
            f"--member=serviceAccount:{plan.platform.build_account()} "
            "--role=roles/secretmanager.secretAccessor"
        )


def print_command(parameters: BuildImageParameters) -> None:
    """Print the command that does the same without asking."""
    words = ["kinetic", "build-image", "--repo", parameters.repository]
    for option, values in (
        ("--category", parameters.categories or ()),
        ("--python", parameters.pythons or ()),
    ):
        words += [word for value in values for word in (option, value)]
    for option, value in (
        ("--tag", parameters.tag),
        ("--dockerfile", parameters.dockerfile),
        ("--project", parameters.project),
        ("--cluster", parameters.cluster),
    ):
        words += [option, value] if value else []
    words += ["--controller"] if parameters.controller else []
    words += ["--no-cache"] if parameters.no_cache else []
    say(f"\nthe same without questions:\n  {shlex.join([*words, '--yes'])}")


def say(line: str) -> None:
    """Print a line for people, apart from what is made for machines."""
    print(line, file=sys.stderr)


def _described(plan: BaseImagesPlan, spec: BaseImageSpec) -> dict[str, Any]:
    common = {"name": spec.name, "references": spec.references, "inputs": spec.inputs}
    source = spec.source
    if isinstance(source, BuildContext):
        return {
            **common,
            "dockerfile": _dockerfile(source),
            "files": sorted(source.files),
            "steps": [asdict(step) for step in plan.platform.steps(spec)],
        }
    return {
        **common,
        "starts_from": source.upstream,
        "environment": dict(VARIABLES[source.category]),
        "packages": pins_of(source.lock),
        "files": BASE_FILES,
    }


def _dockerfile(source: BuildContext) -> str:
    return source.files[source.dockerfile].decode()


def _command(step: BuildStep) -> str:
    """Write a step as a command; of a program in an argument only the first line."""
    words = [step.entrypoint or "docker", *step.args]
    shown = (word if "\n" not in word else f"{word.partition(chr(10))[0]} ..." for word in words)
    return shlex.join(shown).replace("$$", "$")
