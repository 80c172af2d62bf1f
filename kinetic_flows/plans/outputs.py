"""Where the outputs of a call's runs go."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote

from kinetic_flows.core.errors import ConfigurationError, UsageError, suggest
from kinetic_flows.core.job_parts import OutputSpec
from kinetic_flows.core.object_names import OUTPUTS
from kinetic_flows.core.options import RunOptions
from kinetic_flows.core.output_dirs import (
    FUNCTION_FIELD,
    HASH_FIELD,
    NAME_FIELD,
    OWN_FIELDS,
    fields_of,
    filled,
    path_part,
    require_plain,
)

if TYPE_CHECKING:
    from kinetic_flows.core.settings.settings import Settings
    from kinetic_flows.core.volumes import Volume
    from kinetic_flows.plans.draft import Call, Draft
    from kinetic_flows.platforms.base import Platform


def outputs_root(settings: Settings, platform: Platform) -> str:
    """Return where each run has a directory for its outputs.

    Args:
        settings: The settings in force.
        platform: Where runs go.

    Returns:
        A path where the store is a directory, else what the settings say, or a URI.

    Raises:
        ConfigurationError: The outputs of runs on this machine were to go to a URI.
    """
    base = settings.output_dir
    if base and is_here(platform):
        if "://" in base:
            raise ConfigurationError(
                f"KINETIC_OUTPUT_DIR is {base}, and runs on this machine write to a directory",
                value=base,
                hint="set it to a directory, or unset it to keep outputs under KINETIC_HOME",
            )
        # The function works in a copy of the project, which does not outlive it.
        return str(Path(base).expanduser().absolute())
    if base:
        return base.rstrip("/")
    uri = f"{platform.store.uri}/{OUTPUTS}"
    return unquote(uri.removeprefix("file://")) if uri.startswith("file://") else uri


def is_here(platform: Platform) -> bool:
    """Whether a platform's runs write to directories of this machine."""
    return platform.store.uri.startswith("file:")


def check_fields(function: Callable[..., Any], options: RunOptions) -> None:
    """Refuse an output directory that names what a call does not have.

    Raises:
        UsageError: It does.
    """
    if options.output_dir is None:
        return
    known = {*_parameters(function), *OWN_FIELDS}
    for field in fields_of(options.output_dir):
        if field not in known:
            raise UsageError(
                f"output_dir is {options.output_dir!r}, and {_name(function)} has no argument "
                f"{field!r}",
                value=field,
                hint=suggest(field, known),
            )


def output_spec(call: Call, settings: Settings, platform: Platform) -> OutputSpec | None:
    """Return where the outputs of a call's run go; None for a directory of its own.

    Fields stay that arguments decide which a call that is only planned does not have.

    Args:
        call: The call.
        settings: The settings in force.
        platform: Where it goes.

    Raises:
        UsageError: The directory is none that runs can write to, or an argument cannot be part
            of its name.
    """
    template = call.options.output_dir
    if template is None:
        return None
    arguments: dict[str, Any] = {}
    if fields_of(template):
        from kinetic_flows.code.arguments_hash import all_arguments

        arguments = all_arguments(call.function, call.args, call.kwargs)

    # What is only planned may lack some.
    missing = [each for each in _required(call.function) if each not in arguments]

    def value_of(field: str) -> str | None:
        if field in arguments:
            return _part(template, field, arguments[field])
        if missing and (field in missing or field == HASH_FIELD):
            return None
        return _own_field(field, call, arguments)

    directory = _located(filled(template, value_of), settings, platform, call.options)
    return _spec(directory, call.options)


def planned_outputs(draft: Draft) -> str:
    """Return where a call's outputs would go, with what nobody knows yet in braces."""
    if draft.output:
        return draft.output.place
    return f"{outputs_root(draft.settings, draft.platform)}/{{run id}}"


def check_place(draft: Draft) -> None:
    """Refuse a directory of outputs that was named and that nothing can be written to.

    Raises:
        KineticError: Its bucket does not exist, or it cannot be made on this machine.
    """
    output, platform = draft.output, draft.platform
    if output is None or output.place.startswith(f"{platform.store.uri}/"):
        return
    if output.place.startswith("gs://") or is_here(platform):
        platform.outputs(output.place).check()


def deployed_output_spec(draft: Draft) -> OutputSpec | None:
    """Return where the outputs of a deployment's runs go: arguments are filled in by each run.

    Raises:
        UsageError: The directory is none that runs can write to, or names a digest of arguments
            that runs cannot make.
    """
    call = draft.call
    template = call.options.output_dir
    if template is None:
        return None
    from kinetic_flows.code.arguments_hash import all_arguments

    parameters = _parameters(call.function)
    known = all_arguments(call.function, call.args, call.kwargs) if fields_of(template) else {}
    plain = {name: value for name, value in known.items() if _is_plain(value)}
    if HASH_FIELD in fields_of(template) and HASH_FIELD not in parameters:
        for name in known.keys() - plain.keys():
            _refuse(
                template,
                f"the deployment cannot tell arguments by {name}, which is no JSON value",
                "name arguments in braces in place of arguments_hash",
            )

    def value_of(field: str) -> str | None:
        if field in parameters:
            # Of parameters nobody knows yet what they are.
            _refuse_secret(template, field, known.get(field, ""))
        if field in parameters or field == HASH_FIELD:
            return None
        return _own_field(field, call, {})

    directory = filled(template, value_of)
    located = _located(directory, draft.settings, draft.platform, call.options)
    return _spec(located, call.options, plain if fields_of(directory) else None)


def _spec(
    directory: str, options: RunOptions, arguments: Mapping[str, Any] | None = None
) -> OutputSpec:
    waits = options.output_dir_in_use == "wait"
    return OutputSpec(
        directory=directory,
        in_use="wait" if waits else "refuse",
        arguments=arguments or {},
        uri=_place_on_volume(directory, options),
    )


def _located(directory: str, settings: Settings, platform: Platform, options: RunOptions) -> str:
    """Return the exact directory or URI of a directory as it is written."""
    if directory.startswith("gs://"):
        if is_here(platform):
            _refuse(
                directory,
                "runs on this machine write to a directory",
                "give a name or a path; only runs on a cluster write to Cloud Storage",
            )
        return directory
    is_path = directory.startswith(("/", "~")) or directory.split("/")[0] == "."
    if not is_path:
        return f"{outputs_root(settings, platform)}/{directory}"
    if is_here(platform):
        path = str(Path(directory).expanduser().absolute())
        if _volume_of(path, options):
            _refuse(
                directory,
                "of what is written to a volume nothing stays on this machine",
                "give a name: a directory here, and in the bucket on a cluster",
            )
        return path
    if not _is_on_volume(directory, options):
        _refuse(
            directory,
            "on a cluster that path is gone with the run's pod",
            "give a name, a gs:// URI, or a path on a volume that stays: "
            "volumes={'/outputs': 'pvc:my-claim'}, or kinetic.Data('gs://...', mode='mount', "
            "read_only=False)",
        )
    return directory


def _is_on_volume(directory: str, options: RunOptions) -> bool:
    """Whether a path is on a volume that can be written to and outlives the run."""
    volume = _volume_of(directory, options)
    return volume is not None and not volume.read_only and volume.kind != "scratch"


def _place_on_volume(directory: str, options: RunOptions) -> str:
    """Return what a path on a volume is, wherever that is mounted; empty for others."""
    volume = _volume_of(directory, options)
    if volume is None:
        return ""
    below = PurePosixPath(directory).relative_to(volume.path).parts
    if volume.kind == "claim":
        return "/".join((str(volume), *below))
    if volume.data is None or volume.data.kind != "bucket":
        return ""
    return f"gs://{'/'.join(part for part in (*volume.data.bucket(), *below) if part)}"


def _volume_of(directory: str, options: RunOptions) -> Volume | None:
    for path, volume in (options.volumes or {}).items():
        if PurePosixPath(directory).is_relative_to(path):
            return volume
    return None


def _own_field(field: str, call: Call, arguments: Mapping[str, Any]) -> str:
    if field == FUNCTION_FIELD:
        return path_part(_name(call.function)) or field
    if field == NAME_FIELD:
        return path_part(call.name) or field
    from kinetic_flows.code.arguments_hash import arguments_hash

    return arguments_hash(arguments)


def _refuse_secret(template: str, name: str, value: Any) -> None:
    from kinetic_flows.code.reprs import is_secret

    if is_secret(name, value):
        _refuse(template, f"{name} seems to be a secret", "leave it out: names are no secret")


def _part(template: str, name: str, value: Any) -> str:
    _refuse_secret(template, name, value)
    part = path_part(_plain(value))
    if part is None:
        _refuse(
            template,
            f"{name} is a {type(value).__name__}",
            "name a text, a number or a truth value, or {arguments_hash} for all arguments",
        )
    return part


def _plain(value: Any) -> Any:
    """Return a path or the scalar of another library as the plain value that it is."""
    if isinstance(value, PurePath):
        return str(value)
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return value.item()
    return value


def _is_plain(value: Any) -> bool:
    try:
        require_plain(value)
    except TypeError:
        return False
    return True


def _parameters(function: Callable[..., Any]) -> Collection[str]:
    import inspect

    return inspect.signature(function).parameters


def _required(function: Callable[..., Any]) -> Collection[str]:
    import inspect

    collecting = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is parameter.empty and parameter.kind not in collecting
    ]


def _name(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", None) or type(function).__name__)


def _refuse(directory: str, why: str, hint: str) -> NoReturn:
    raise UsageError(f"output_dir is {directory!r}: {why}", value=directory, hint=hint)
