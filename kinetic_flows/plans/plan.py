"""The plan of one call: everything decided before the first side effect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kinetic_flows.core.display import labelled
from kinetic_flows.core.environment import EnvironmentSpec, ImageMode, ImageRequest, size_in_words
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.files import size_in_units
from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.core.public_names import public
from kinetic_flows.dependencies.explain import explain_change
from kinetic_flows.dependencies.locking import Lock
from kinetic_flows.images.base_lookup import FoundBase, WantedBase, find_base
from kinetic_flows.images.inspection import ImageReport, ImageRequirements, check_image
from kinetic_flows.plans.draft import Draft, job_request, lock_draft
from kinetic_flows.platforms.choose import title_of
from kinetic_flows.platforms.image_sources import DecidedImage, DecidedProjectImage

PLANNED_RUN_ID = "00000000-0000-0000-0000-000000000000"
"""Stands for the id that a planned run has not got yet."""


@dataclass(frozen=True, kw_only=True)
class CodeSummary:
    """How much code ships."""

    files: int
    size_bytes: int


@public
@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """Everything decided about one call.

    Attributes:
        name: The function's name.
        platform: `local` or `gke`.
        accelerator: Canonical name of the accelerator.
        mode: How the image comes to be.
        build_step: What has to be built, in the words of the documentation.
        packages_come: How dependencies get into the image, in the same words.
        image: The image's reference.
        digest: Digest of the image; None while there is none.
        size_bytes: Its compressed size; None when it is not known, or there is none.
        cached: Whether the image exists already; None when nobody has looked.
        dependency_file: The file that declares the dependencies; None when there is none.
        dependency_source: What to call what declares them: that file, or what there is instead.
        environment: The project's packages, in the image or installed when it starts; None in
            custom mode.
        code: How much code ships; None when none does.
        job_variables: What the work pool's job template is given.
        filtered: Requirements that are left out because the image has the accelerator's own
            version, a sentence each.
        warnings: What else the person should know, a sentence each.
        obstacles: What the cluster says against launching it now, a sentence each.
        why: Why the image has to be built; None when it need not be, or nobody knows.
    """

    name: str
    platform: str
    accelerator: str
    mode: ImageMode
    build_step: str
    packages_come: str
    image: str
    digest: str | None = None
    size_bytes: int | None = None
    cached: bool | None
    dependency_file: str | None
    dependency_source: str
    environment: EnvironmentSpec | None
    code: CodeSummary | None
    job_variables: Mapping[str, Any]
    filtered: tuple[str, ...]
    warnings: tuple[str, ...]
    obstacles: tuple[str, ...] = ()
    why: tuple[str, ...] | None

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values, for machines."""
        environment = self.environment
        return {
            "name": self.name,
            "platform": self.platform,
            "accelerator": self.accelerator,
            "mode": self.mode,
            "build_step": self.build_step,
            "packages_come": self.packages_come,
            "image": self.image,
            "digest": self.digest,
            "size_bytes": self.size_bytes,
            "cached": self.cached,
            "dependency_file": self.dependency_file,
            "dependency_source": self.dependency_source,
            "base_variant": environment.variant if environment else None,
            "dependency_hash": environment.dependency_hash if environment else None,
            "packages": {item.name: item.version for item in environment.packages}
            if environment
            else {},
            "code": {"files": self.code.files, "bytes": self.code.size_bytes}
            if self.code
            else {"files": 0, "bytes": 0},
            "filtered": list(self.filtered),
            "warnings": list(self.warnings),
            "obstacles": list(self.obstacles),
            "why": list(self.why) if self.why is not None else None,
        }

    def explain(self) -> str:
        """Return the plan as text for people."""
        environment = self.environment
        rows = [
            ("function", self.name),
            ("runs on", f"{self.accelerator}, {title_of(self.platform)}"),
            ("image", f"{self.image} ({self.mode}, {_CACHED_WORDS[self.cached]})"),
        ]
        if self.size_bytes is not None:
            rows.append(("size", size_in_words(self.size_bytes)))
        rows += [("build", self.build_step), ("dependencies", self._dependencies())]
        if environment and environment.variant == "lean":
            rows.append(("base", f"{environment.category}-lean, which has no framework of its own"))
        if environment:
            rows.append(("packages", f"{len(environment.packages)} locked"))
            rows.append(("hash", environment.dependency_hash))
        if self.code:
            size = size_in_units(self.code.size_bytes)
            rows.append(("code", f"{self.code.files} files, {size}"))
        rows += [("why", line) for line in self.why or ()]
        rows += [("left out", line) for line in self.filtered]
        rows += [("warning", line) for line in self.warnings]
        rows += [("in the way", line) for line in self.obstacles]
        return labelled(rows)

    def _dependencies(self) -> str:
        come = self.packages_come[0].lower() + self.packages_come[1:]
        if self.environment is None:
            return f"{come} ({self.dependency_source} is ignored)" if self.dependency_file else come
        return f"{self.dependency_source}, {come}"


_CACHED_WORDS: Mapping[bool | None, str] = {
    True: "exists",
    False: "has to be built",
    None: "not looked up",
}


def plan_call(draft: Draft, environ: Mapping[str, str]) -> RunPlan:
    """Decide the rest of a call and return all of it; nothing outside this machine changes.

    Args:
        draft: What is decided already.
        environ: Variables for uv.

    Raises:
        KineticError: The dependencies or the image cannot be.
    """
    decided = draft.image.decide(_Questions(draft=draft, environ=environ))
    image, lock = decided.image, decided.lock
    filtered, told = (lock.filtered, lock.warnings) if lock else ((), ())
    return RunPlan(
        name=draft.name,
        platform=draft.platform.name,
        accelerator=str(draft.accelerator),
        mode=draft.mode,
        build_step=draft.image.build_step,
        packages_come=draft.image.packages_come,
        image=decided.reference,
        digest=image.digest if image else None,
        size_bytes=image.config.size_bytes if image and image.config else None,
        cached=image is not None,
        dependency_file=str(draft.source.path) if draft.source.path else None,
        dependency_source=draft.source.label,
        environment=decided.environment,
        code=CodeSummary(files=draft.snapshot.files, size_bytes=draft.snapshot.size_bytes),
        job_variables=(
            draft.platform.job_variables(job_request(draft, PLANNED_RUN_ID, image)) if image else {}
        ),
        filtered=filtered,
        warnings=(
            *draft.warnings,
            *decided.warnings,
            *(line for line in told if line not in filtered),
        ),
        obstacles=_obstacles(draft),
        why=_reasons_to_build(draft, decided),
    )


@dataclass(frozen=True, kw_only=True)
class _Questions:
    """Asks plainly, and stores nothing."""

    draft: Draft
    environ: Mapping[str, str]

    def lock(self, base: ResolvedImage | None = None) -> Lock:
        return lock_draft(self.draft, self.environ, base=base, write=False)

    def resolve(self, request: ImageRequest) -> ResolvedImage | None:
        return self.draft.platform.registry.resolve(request.reference)

    def find_base(self, wanted: WantedBase) -> FoundBase:
        return find_base(self.draft.platform.registry, wanted)

    def check(self, reference: str, required: ImageRequirements) -> ImageReport:
        return check_image(self.draft.platform.registry, reference, required)


def _obstacles(draft: Draft) -> tuple[str, ...]:
    """Ask the cluster what speaks against a launch; a plan does without an answer."""
    platform = draft.platform
    if not platform.has_preflight:
        return ()
    needs = platform.launch_needs(draft.accelerator, draft.mode, draft.call.options)
    try:
        is_launched_here = platform.dispatch == "client"
        return platform.launcher.preflight(needs).problems if is_launched_here else ()
    except KineticError as error:
        return (f"the cluster cannot be asked: {error.message}",)


def _reasons_to_build(draft: Draft, decided: DecidedImage) -> tuple[str, ...] | None:
    """Say what makes an environment new; None where nothing has to be built."""
    if not isinstance(decided, DecidedProjectImage) or decided.image:
        return None
    return explain_change(
        home=draft.settings.home,
        project_root=draft.source.project_root,
        environment=decided.environment,
    )
