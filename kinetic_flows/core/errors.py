"""Every error this library raises on purpose, as one tree under `KineticError`.

Each error says what failed, carries the offending value, and hints at what to do next; the
command line turns its class into a process exit code. Errors of other people's software
(Prefect, uv, Google's and Kubernetes' clients) are translated at the edge where they occur
and never leave the library raw.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, ClassVar, TypeVar

from kinetic_flows.core.public_names import HOMES, importable_from

E = TypeVar("E", bound="KineticError")

_CAUSE = "_cause"
_DOCTOR_KNOWS = "_doctor_knows"

DOCTOR_NOTE = "`kinetic doctor` looks at all that runs depend on, and says what mends it"


class KineticError(Exception):
    """Base of everything the library raises on purpose.

    Args:
        message: What failed, in one sentence that names the offending value.
        value: The offending value itself, for programs; None when there is none.
        hint: What to do next; None when nothing can be done by the reader.

    A program's end, a notebook and a log show of it the line that made the call and the message:
    no frames of ours, and no errors of other software, which `cause` has.
    """

    exit_code: ClassVar[int] = 1
    doctor_knows: ClassVar[bool] = False
    """Whether `kinetic doctor` may find what it comes from: something around the run, and nothing
    that the call says."""

    def __init__(self, message: str, *, value: Any = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.value = value
        self.hint = hint

    @property
    def cause(self) -> BaseException | None:
        """The error of other software that this one tells of; None when there is none.

        It has all its frames, and is not shown unless `KINETIC_DEBUG` is set.
        """
        found: BaseException | None = vars(self).get(_CAUSE, self.__cause__)
        return found

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        # What lies behind it holds sockets and the like.
        state = {name: value for name, value in vars(self).items() if name != _CAUSE}
        return _restore_error, (type(self), self.args, state)


def known_to_doctor(error: E) -> E:
    """Return an error, marked as one that `kinetic doctor` may tell more of.

    Args:
        error: One of a class of which that cannot be said.
    """
    vars(error)[_DOCTOR_KNOWS] = True
    return error


def note_doctor(error: KineticError) -> None:
    """Have an error say that `kinetic doctor` tells more of it, where it does; said once.

    Args:
        error: What leaves the library, or the command.
    """
    is_known = vars(error).get(_DOCTOR_KNOWS, error.doctor_knows)
    if is_known and DOCTOR_NOTE not in getattr(error, "__notes__", ()):
        error.add_note(DOCTOR_NOTE)


def hide_cause(error: KineticError, before: BaseException | None = None) -> None:
    """Have the cause of an error shown no more, wherever it is; `error.cause` still has it.

    Args:
        error: The error.
        before: What was being handled already when our work began, which stays in sight.
    """
    hidden = error.__cause__ or error.__context__
    if hidden is not None and hidden is not before:
        vars(error)[_CAUSE] = hidden
    error.__cause__, error.__context__ = None, before
    error.__suppress_context__ = before is None


def _restore_error(kind: type[KineticError], args: tuple[Any, ...], state: dict[str, Any]) -> Any:
    """Rebuild an error without calling `__init__`, whose keywords pickle cannot know."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class UsageError(KineticError):
    """The caller asked for something that cannot be: a bad argument, option or function."""

    exit_code = 2


class FunctionNotSupportedError(UsageError):
    """The decorated object cannot run remotely (a generator, a classmethod object, ...)."""


class AcceleratorError(UsageError):
    """An accelerator name or size that does not exist."""


class ConfigurationError(KineticError):
    """A setting is missing, malformed, or contradicts another one."""

    exit_code = 3


class PackagingError(KineticError):
    """The project's code cannot be collected and shipped."""

    exit_code = 4


class PackageRootError(PackagingError):
    """No package root, or one that cannot be used."""


class ProjectTooLargeError(PackagingError):
    """The project exceeds the size limit for shipped code."""


class UnpicklableError(PackagingError):
    """An argument, a captured global or the function itself cannot be pickled."""


class DependencyError(KineticError):
    """The project's dependencies cannot be read, resolved or shipped."""

    exit_code = 5


class LockError(DependencyError):
    """uv could not resolve the requirements, or a lock contradicts its project file."""


class ImageError(KineticError):
    """An image reference is malformed, missing, unreadable or unfit."""

    exit_code = 6


class RepositoryNotFoundError(ImageError):
    """The registry has no such repository."""

    doctor_knows = True


class RegistryAccessError(ImageError):
    """The registry refuses this with these credentials, or without any."""

    doctor_knows = True


class SecretError(KineticError):
    """A secret is not to be had, or Secret Manager refuses or cannot be reached."""

    exit_code = 11


class CloudError(KineticError):
    """Google Cloud refuses what setting up or looking after a cluster asks for, or it failed."""

    exit_code = 13
    doctor_knows = True


class BuildError(KineticError):
    """An environment or image could not be built."""

    exit_code = 7
    doctor_knows = True


class LaunchError(KineticError):
    """The run could not be started where it was meant to run."""

    exit_code = 8
    doctor_knows = True
    is_denial = False
    """Whether the cluster refuses what was to be started there, whoever asks for it."""


class RehearsalError(KineticError):
    """A rehearsal could not be made, or says that a step does not fit its accelerator."""

    exit_code = 14


class OutputDirInUseError(KineticError):
    """Another run that has not ended writes to the output directory."""

    exit_code = 12


class StoreError(KineticError):
    """The artifact store refused, lost or corrupted an object, or cannot be reached."""

    exit_code = 9
    doctor_knows = True


class ObjectNotFoundError(StoreError):
    """An object that should be in the artifact store is not there."""

    doctor_knows = False


class ObjectRefusedError(StoreError):
    """An object's content does not match the digest or signature it must have."""

    doctor_knows = False


class PrefectServerError(KineticError):
    """The Prefect API cannot be reached, or the background server does not start."""

    exit_code = 10
    doctor_knows = True


class PrefectUnreachable(PrefectServerError):
    """The Prefect API cannot be reached now, or is overwhelmed; later it may answer."""


class RunError(KineticError):
    """A remote run ended without a value; its subclasses say how.

    Args:
        message: What happened, in one sentence.
        value: The run's id.
        hint: What to do next.
        log_tail: The last lines the run printed, oldest first.
        remote_traceback: The traceback as the run printed it; None when there is none.
    """

    exit_code = 20

    def __init__(
        self,
        message: str,
        *,
        value: Any = None,
        hint: str | None = None,
        log_tail: Iterable[str] = (),
        remote_traceback: str | None = None,
    ) -> None:
        super().__init__(message, value=value, hint=hint)
        self.log_tail = tuple(log_tail)
        self.remote_traceback = remote_traceback

    def __str__(self) -> str:
        parts = [super().__str__()]
        if self.log_tail:
            parts += ["  last lines of its log:", *(f"    {line}" for line in self.log_tail)]
        if self.remote_traceback:
            parts += ["  remote traceback:", self.remote_traceback.rstrip()]
        return "\n".join(parts)


class RunFailed(RunError):
    """The function raised, and its exception cannot be raised here as its own type."""

    exit_code = 21


class RunCrashed(RunError):
    """The run's process died (signal, exit code, lost pod) before it wrote a result."""

    exit_code = 22


class DevicesMissing(RunCrashed):
    """The chips that the run asked for are not there or do not work; nothing was computed."""

    exit_code = 27


class RunCancelled(RunError):
    """The run was cancelled."""

    exit_code = 23


class RunTimedOut(RunError):
    """The function ran longer than its `timeout_seconds`."""

    exit_code = 24


class ResultError(RunError):
    """The function returned, but its value cannot be shipped or read."""

    exit_code = 25


class WaitTimeout(KineticError):
    """The caller stopped waiting; the run itself goes on."""

    exit_code = 26


class RunNotFoundError(UsageError):
    """No run has this id, or a shortened id fits several."""


class DeploymentNotFoundError(UsageError):
    """No deployment of a remote function has this name."""


def in_a_sentence(error: KineticError) -> str:
    """Return what is wrong, and what to do, where that is one of several things told."""
    return f"{error.message}; {error.hint}" if error.hint else error.message


def suggest(unknown: str, valid: Iterable[str]) -> str:
    """Say which valid name was probably meant, or list them all.

    Args:
        unknown: The name that was not recognised.
        valid: Every name that would have been.

    Returns:
        A sentence fit for an error's hint.
    """
    names = sorted(valid)
    nearest = get_close_matches(unknown.lower(), names, n=1, cutoff=0.6)
    listed = ", ".join(names)
    return f"did you mean {nearest[0]!r}? Valid: {listed}" if nearest else f"valid: {listed}"


def _name_modules() -> None:
    """Have every error, and what restores it, say where people import it from."""
    documented = "kinetic_flows.errors"
    for name, kind in list(globals().items()):
        if isinstance(kind, type) and issubclass(kind, KineticError):
            importable_from("kinetic" if name in HOMES else documented, kind)
    _restore_error.__module__ = documented


_name_modules()
