"""Deciding a rehearsal: for which accelerators, with which packages, and where it compiles."""

from __future__ import annotations

import inspect
import platform as machine
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kinetic_flows.code.payload import pack_call
from kinetic_flows.core.accelerators import Accelerator
from kinetic_flows.core.accelerators.registry import CPU
from kinetic_flows.core.errors import RehearsalError, UsageError
from kinetic_flows.core.functions import is_async
from kinetic_flows.core.job_parts import RehearsalSpec, RehearsalTarget
from kinetic_flows.core.options import RunOptions
from kinetic_flows.core.settings.settings import Settings
from kinetic_flows.plans.accelerators import Choice, image_options, parsed
from kinetic_flows.plans.data import open_sources
from kinetic_flows.plans.draft import Draft
from kinetic_flows.plans.rehearsal import code_digest, function_id, target_for
from kinetic_flows.platforms.base import Notices, Platform
from kinetic_flows.platforms.choose import this_machine
from kinetic_flows.platforms.image_sources import ImageSource, OwnImage

KEPT_OPTIONS = (
    *("tags", "container_image", "base_image_repo", "ship_wheels", "requirements", "framework"),
    *("capture_env_vars", "project", "zone", "cluster", "dispatch"),
)
"""Options of a function that hold for its rehearsal, which is neither repeated nor given data."""

KEPT_VARIABLES = ("service_account_name", "queue_name", "labels", "annotations")
"""Variables of the job template that hold for it: as whom, and in whose turn, it may run."""

EXAMPLE = """add to its file:
    @{name}.rehearsal
    def _(devices):  # the accelerator's, none of which is here
        return step, (shapes_of_its_arguments,)"""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One accelerator of a rehearsal.

    Attributes:
        target: What is compiled for.
        draft: The rehearsal with the image that runs on the accelerator have, for its packages.
    """

    target: RehearsalTarget
    draft: Draft


@dataclass(frozen=True, kw_only=True)
class RehearsalPlan:
    """What is decided of a rehearsal before anything is locked.

    Attributes:
        function: What tells its function from others.
        name: The function's name.
        code_sha256: Digest of what it is made of, besides its packages.
        wanted: The accelerators, in the order that was asked for.
        settings: The settings that its runs are made under.
        platform: Where its runs are: this machine where the packages can be installed here.
    """

    function: str
    name: str
    code_sha256: str
    wanted: tuple[Wanted, ...]
    settings: Settings
    platform: Platform

    @property
    def compiles_here(self) -> bool:
        """Whether it compiles on this machine."""
        return self.platform.sees_files


def require_rehearsal(
    name: str, rehearsal: Callable[..., Any] | None, bound: tuple[Any, ...]
) -> Callable[..., Any]:
    """Return a function's rehearsal.

    Args:
        name: The function's name.
        rehearsal: Its rehearsal; None where it has none.
        bound: What is given to it besides devices: the instance, for a method.

    Raises:
        UsageError: It has none, or one that does not take the devices, or that is async.
    """
    if rehearsal is None:
        raise UsageError(
            f"{name} has no rehearsal: nothing says what it compiles",
            value=name,
            hint=EXAMPLE.format(name=name),
        )
    if is_async(rehearsal):
        raise UsageError(
            f"the rehearsal of {name} is an async function, and nothing waits for it",
            value=name,
            hint="write `def` in place of `async def`: it names steps, and runs none",
        )
    try:
        inspect.signature(rehearsal).bind(*bound, [])
    except ValueError:  # it has no signature
        return rehearsal
    except TypeError as error:
        raise UsageError(
            f"the rehearsal of {name} is given the devices, and nothing else: {error}",
            value=name,
            hint=EXAMPLE.format(name=name),
        ) from error
    return rehearsal


def rehearsal_options(options: RunOptions, accelerators: Sequence[str] | None) -> RunOptions:
    """Return the options of a function's rehearsal.

    Args:
        options: How the function runs.
        accelerators: What to compile for; None for what the function runs on.

    Raises:
        UsageError: There is no such accelerator, or none is named.
    """
    kept = {name: getattr(options, name) for name in KEPT_OPTIONS}
    variables = {
        name: value for name, value in options.job_variables.items() if name in KEPT_VARIABLES
    }
    own = RunOptions(
        **kept,
        job_variables=variables,
        accelerator=options.accelerator,
        hosts=options.hosts,
        slices=options.slices,
    )
    return own if accelerators is None else own.updated({"accelerator": list(accelerators)})


def rehearsed_accelerators(
    options: RunOptions, settings: Settings, platform: Platform
) -> tuple[Accelerator, ...]:
    """Return what is compiled for: nodes and slices as a run of the function has them.

    Spot and flex-start compile alike.

    Args:
        options: The options of the rehearsal.
        settings: The settings in force.
        platform: Where the function runs.

    Raises:
        AcceleratorError: There is no such accelerator, or not as many of it.
        RehearsalError: It is one that nothing is compiled for beforehand.
    """
    found = []
    for name in options.accelerators_or(settings.accelerator):
        each = replace(parsed(name, platform), spot=False, flex=False)
        is_tpu = each.category == "tpu"
        many = each.times(
            hosts=1 if is_tpu else options.hosts or 1,
            slices=options.slices or 1 if is_tpu else 1,
        )
        target_for(many)
        found.append(many)
    return tuple(dict.fromkeys(found))


def rehearsal_choice(
    accelerator: Accelerator, options: RunOptions, settings: Settings, platform: Platform
) -> Choice:
    """Return what a rehearsal's packages are for, as a draft is given it."""
    image = platform.accelerator_image(image_options(options, settings), accelerator)
    return Choice(accelerator=accelerator, image=image, candidates=(), told=Notices())


def plan_rehearsal(
    draft: Draft,
    environ: Mapping[str, str],
    accelerators: Sequence[Accelerator] | None = None,
) -> RehearsalPlan:
    """Decide the rehearsal of a call's function.

    Args:
        draft: The call; its arguments do not matter.
        environ: This process's variables.
        accelerators: What to compile for; None for all that the call may run on.

    Raises:
        UsageError: The function has no rehearsal.
        RehearsalError: It can be compiled neither here nor on a cluster.
        KineticError: The packages of an accelerator are not to be had.
    """
    call, platform, settings = draft.call, draft.platform, draft.settings
    function = require_rehearsal(call.name, call.rehearsal, call.bound)
    options = rehearsal_options(call.options, None)
    if accelerators is None:
        accelerators = rehearsed_accelerators(options, settings, platform)
    targets = [target_for(each) for each in accelerators]
    asked = image_options(options, settings)
    images = [platform.accelerator_image(asked, each) for each in accelerators]
    payload = pack_call(function, call.bound, {}, root=draft.root)
    rehearsal = replace(
        draft,
        call=replace(
            call,
            function=function,
            args=call.bound,
            kwargs={},
            # Runs of its own function are counted without it.
            options=replace(options, name=f"{call.name}-rehearsal", hosts=None, slices=None),
            rehearsal=None,
        ),
        payload=payload,
        sources=open_sources(payload.data, options, settings, platform, environ),
        argument_reprs={},
        output=None,
        candidates=(),
    )
    wanted = [
        Wanted(target=target, draft=replace(rehearsal, accelerator=each, image=image))
        for target, each, image in zip(targets, accelerators, images, strict=True)
    ]
    where, own = _where(platform, settings, images, environ)
    return RehearsalPlan(
        function=function_id(call.function, draft.root.path),
        name=call.name,
        code_sha256=code_digest(draft),
        wanted=tuple(wanted),
        settings=own,
        platform=where,
    )


def run_of(
    wanted: Sequence[Wanted], plan: RehearsalPlan, image: ImageSource, environ: Mapping[str, str]
) -> Draft:
    """Return the one run that compiles for accelerators with the same packages: without chips.

    Args:
        wanted: The accelerators.
        plan: The rehearsal.
        image: Where the image of its run comes from.
        environ: This process's variables.
    """
    draft, settings, platform = wanted[0].draft, plan.settings, plan.platform
    targets = tuple(each.target for each in wanted)
    data = draft.payload.data
    return replace(
        draft,
        settings=settings,
        platform=platform,
        accelerator=CPU,
        image=image,
        sources=open_sources(data, draft.call.options, settings, platform, environ),
        compiles_for=RehearsalSpec(targets=targets, name=plan.name),
    )


def _where(
    platform: Platform,
    settings: Settings,
    images: Sequence[ImageSource],
    environ: Mapping[str, str],
) -> tuple[Platform, Settings]:
    """Return where a rehearsal compiles, and the settings for that.

    Raises:
        RehearsalError: Its packages can be installed neither here nor on a cluster.
    """
    is_own = any(isinstance(image, OwnImage) for image in images)
    lacking = "" if is_own else lacks_for_images(images[0].python)
    if not is_own and not lacking:
        here = replace(settings, platform="local", cloud=None, output_dir=None)
        return this_machine(here, environ), here
    if platform.sees_files:
        raise RehearsalError(
            f"the packages of TPUs and GPUs are for {FOR_IMAGES}, and this is {lacking}",
            value=lacking,
            hint="configure a cluster (KINETIC_PROJECT), on a CPU of which it then compiles; or "
            "run it on Linux, in CI for instance",
        )
    return platform, settings


FOR_IMAGES = "Linux on x86-64 with glibc"
"""Whose wheels images are made of."""


def lacks_for_images(python: str) -> str:
    """Say what this machine is where the packages of images cannot be installed; else nothing.

    Args:
        python: Python minor version of the images.
    """
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    if sys.platform != "linux" or machine.machine() not in ("x86_64", "AMD64"):
        return f"{machine.system()} on {machine.machine()}"
    if machine.libc_ver()[0] != "glibc":
        return "Linux without glibc"
    return "" if own == python else f"Python {own} in place of {python}"
