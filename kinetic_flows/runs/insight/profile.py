"""Profiling some seconds of a live run: `run.profile()` and `kinetic runs profile`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kinetic_flows.clients.prefect.records import RunRecord
from kinetic_flows.core import option_values as check
from kinetic_flows.core.display import counted
from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.files import size_in_units
from kinetic_flows.runs.insight.beside import HostAnswer, ask, ask_all
from kinetic_flows.runs.session import Session

LONGEST_SECONDS = 600.0
WRITE_SECONDS = 330.0
"""How long a host may take to write and store what it has seen; its own limit is a little less."""

FOLDER = "profile"
PERFETTO = "https://ui.perfetto.dev"


@dataclass(frozen=True, kw_only=True)
class HostProfile:
    """What one host of a run has told of its profile.

    Attributes:
        host: Its number, counted over all slices.
        tool: Whose profiler it was, `jax` or `torch`; empty where there is no profile.
        seconds: How long it looked.
        files: Names of its files among the run's outputs.
        size_bytes: Their size.
        why_not: Why there is no profile; empty where there is one.
    """

    host: int
    tool: str = ""
    seconds: float = 0.0
    files: tuple[str, ...] = ()
    size_bytes: int = 0
    why_not: str = ""

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        if self.why_not:
            return {"host": self.host, "why_not": self.why_not}
        return {
            "host": self.host,
            "tool": self.tool,
            "seconds": self.seconds,
            "files": list(self.files),
            "bytes": self.size_bytes,
        }


@dataclass(frozen=True, kw_only=True)
class RunProfile:
    """A profile of some seconds of a run, which is among its outputs.

    As text it is what `kinetic runs profile` prints: where it is, and how to look at it.

    Attributes:
        run_id: The run.
        outputs: Where the run's outputs are: a directory of this machine, or a `gs://` URI.
        session: The name under which XProf shows it.
        hosts: The hosts that were asked, in order; one at least has a profile.
    """

    run_id: str
    outputs: str
    session: str
    hosts: tuple[HostProfile, ...]

    @property
    def directory(self) -> str:
        """What XProf calls its log directory."""
        return f"{self.outputs.rstrip('/')}/{FOLDER}"

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        hosts = [each.document() for each in self.hosts]
        return {"directory": self.directory, "session": self.session, "hosts": hosts}

    def __str__(self) -> str:
        return "\n".join([*self._found(), *self._how_to_look()])

    def _found(self) -> Iterator[str]:
        for each in self.hosts:
            who = f"host {each.host}: " if len(self.hosts) > 1 else ""
            if each.why_not:
                yield f"{who}no profile: {each.why_not}"
                continue
            yield (
                f"{who}{each.seconds:.1f} s of {each.tool}: {counted(len(each.files), 'file')}, "
                f"{size_in_units(each.size_bytes)}"
            )
        yield f"in {self.directory}"

    def _how_to_look(self) -> Iterator[str]:
        place = self.directory
        if "://" in place:
            here = f"profile-{self.run_id[:8]}"
            yield f"copy:     kinetic runs outputs {self.run_id} '{FOLDER}/*' --to {here}"
            place = f"{here}/{FOLDER}"
        files = [name for each in self.hosts for name in each.files]
        if any(name.endswith("xplane.pb") for name in files):
            yield f"XProf:    uvx xprof --logdir {place}"
        trace = next((name for name in files if name.endswith(".json.gz")), "")
        if trace:
            yield f"Perfetto: open {place}{trace.removeprefix(FOLDER)} at {PERFETTO}"


def take_profile(
    session: Session, record: RunRecord, seconds: float, host: int | None = None
) -> RunProfile:
    """Have a run profile its next seconds, on all its hosts at the same time.

    Args:
        session: Where the run is.
        record: Its flow run.
        seconds: How long.
        host: The only host to profile; None for all.

    Raises:
        UsageError: The run is over, has not come to its function, has no such host, or nothing
            that could be profiled.
        LaunchError: The cluster cannot be asked.
    """
    seconds = check.seconds("seconds", seconds)
    if seconds > LONGEST_SECONDS:
        check.refuse("seconds", seconds, f"give at most {LONGEST_SECONDS:g}")
    name = datetime.now(UTC).strftime("%Y-%m-%d-%H-%M-%S")
    command = ("profile", f"{seconds:g}", name)
    limit = seconds + WRITE_SECONDS
    if host is None:
        answers = ask_all(session, record, *command, limit_seconds=limit)
    else:
        told = ask(session, record, host, *command, limit_seconds=limit)
        answers = (HostAnswer(host=host, place="", told=told),)
    found = tuple(_profile(each) for each in answers)
    if all(each.why_not for each in found):
        reasons = dict.fromkeys(each.why_not for each in found)
        raise UsageError(
            f"run {record.shown_name} cannot be profiled: {'; '.join(reasons)}",
            value=record.id,
            hint=f"`kinetic runs stacks {record.id}` shows what it does now",
        )
    outputs = next(str(each.told["outputs"]) for each in answers if each.told.get("outputs"))
    return RunProfile(run_id=record.id, outputs=outputs, session=name, hosts=found)


def _profile(answer: HostAnswer) -> HostProfile:
    told = answer.told
    why_not = answer.why_not or str(told.get("why", ""))
    if why_not:
        return HostProfile(host=answer.host, why_not=why_not)
    return HostProfile(
        host=answer.host,
        tool=told["tool"],
        seconds=told["seconds"],
        files=tuple(each["name"] for each in told["files"]),
        size_bytes=sum(each["bytes"] for each in told["files"]),
    )
