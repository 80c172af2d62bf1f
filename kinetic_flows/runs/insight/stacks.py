"""Looking at what every thread of a live run does: `run.stacks()` and `kinetic runs stacks`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kinetic_flows.clients.prefect.records import RunRecord
from kinetic_flows.core.display import for_terminal
from kinetic_flows.runs.insight.beside import HostAnswer, ask, ask_all
from kinetic_flows.runs.insight.host_stacks import HostStacks, host_stacks
from kinetic_flows.runs.insight.stack_groups import StackGroup, group_hosts
from kinetic_flows.runs.insight.stack_words import shown_stacks, summary
from kinetic_flows.runs.session import Session

LIMIT_SECONDS = 30.0
"""How long a host may take to tell what it does; its process has a part of that."""


@dataclass(frozen=True, kw_only=True, repr=False)
class RunStacks:
    """What the hosts of a run did when they were looked at.

    As text, and so in a REPL and a notebook, it is what `kinetic runs stacks` prints.

    Attributes:
        hosts: The hosts, in order; those that told nothing say why in `why_not`.
    """

    hosts: tuple[HostStacks, ...]

    @property
    def groups(self) -> tuple[StackGroup, ...]:
        """The hosts by what they do, the largest group first."""
        return group_hosts(self.hosts)

    @property
    def summary(self) -> str:
        """What they do, in a sentence that names those that differ."""
        return summary(self.hosts)

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "summary": self.summary,
            "groups": [list(group.numbers) for group in self.groups],
            "hosts": [each.document() for each in self.hosts],
        }

    def __repr__(self) -> str:
        return for_terminal(shown_stacks(self.hosts))


def read_stacks(session: Session, record: RunRecord, host: int | None = None) -> RunStacks:
    """Look at what every thread of a run's hosts does.

    Args:
        session: Where the run is.
        record: Its flow run.
        host: The only host to look at; None for all.

    Raises:
        UsageError: The run is over, has not begun, or has no such host.
        LaunchError: The cluster cannot be asked.
    """
    if host is not None:
        told = ask(session, record, host, "stacks", limit_seconds=LIMIT_SECONDS)
        return RunStacks(hosts=(host_stacks(told),))
    answers = ask_all(session, record, "stacks", limit_seconds=LIMIT_SECONDS)
    return RunStacks(hosts=tuple(_host(each) for each in answers))


def _host(answer: HostAnswer) -> HostStacks:
    if answer.why_not:
        return HostStacks(host=answer.host, place=answer.place, why_not=answer.why_not)
    return host_stacks(answer.told, answer.place)
