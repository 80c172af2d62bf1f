"""Runs that may go on one of several accelerators: what the store says of their launches.

Each accelerator of a list is a candidate. The candidates are launched in rounds: one at a time,
or all of them in a race. Within a round at most one ever calls the function, because a runner
calls it only after it has taken the round's claim, which only one can: the store creates an
object once. Whoever wants to give a round up takes the claim, too, so that nothing of the round
can begin any more, and only then begins the next.

| object of the run | written by | says |
|---|---|---|
| `candidates.json` | the client, before anything is launched | a `Candidates` |
| `rounds/{round}/round.json` | whoever drives the run | a `Round`: what was launched, and why |
| `rounds/{round}/claim.json` | a runner, or whoever drives the run | a `Claim` |
| `rounds/{round}/end.json` | that runner, or whoever drives the run | an `End`: why it goes on |
| `rounds/{round}/told.json` | whoever drives the run | that its log says who has the claim |

The runner's side is `runner_image/runner/candidates.py`; `tests/unit/test_contract.py` holds the
two together.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

from kinetic_flows.core.job import canonical_json

LAUNCH_VARIABLE = "KINETIC_LAUNCH"
"""Environment variable that tells a candidate's process which launch it is: `r0c1`."""

Strategy = Literal["in_order", "race"]

_LAUNCH = re.compile(r"r(?P<round>\d+)c(?P<candidate>\d+)")


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One start of one candidate; `str()` gives `r{round}c{candidate}`.

    Attributes:
        round: The round, from 0.
        candidate: The candidate's place in the list, from 0.
    """

    round: int
    candidate: int

    def __str__(self) -> str:
        return f"r{self.round}c{self.candidate}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str()` gives.

        Raises:
            ValueError: It is nothing such.
        """
        found = _LAUNCH.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} names no launch")
        return cls(round=int(found["round"]), candidate=int(found["candidate"]))

    def key(self, run_id: str) -> str:
        """Return by what a launcher knows its process: that of a run without candidates is its id.

        Args:
            run_id: The run's id.
        """
        return f"{run_id}-{self}"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One accelerator of a list, with what a process on it is started with.

    Attributes:
        accelerator: Its canonical name.
        image: The fields of the image it runs in.
        job: Name of its job in the store.
        job_sha256: Digest of that.
        job_variables: What the work pool's job template is given for it, but for what names a
            run or a launch.
        memory_gb: Memory of all its chips together, by which `on_oom` finds a larger one.
    """

    accelerator: str
    image: Mapping[str, Any]
    job: str
    job_sha256: str
    job_variables: Mapping[str, Any]
    memory_gb: int = 0


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """The accelerators that a run may go on, as they are tried.

    Attributes:
        candidates: Each of them, in the order of preference; those that cannot be had at all were
            left out.
        strategy: Whether they are tried in order, or all at once.
        fallback_after_seconds: How long each is waited for before the next is tried.
        on_oom: `larger` to go on with one that has more memory after a death for want of it;
            None for the end of the run.
        max_preemptions: How often the run may begin anew after it was preempted, evicted or lost.
        function: The function's name, which Jobs are named after.
        credentials: Digest, made with the run's key, of what let in at Prefect who submitted it:
            whoever starts a launch with other credentials keeps those for themselves.
    """

    candidates: tuple[Candidate, ...]
    function: str
    strategy: Strategy = "in_order"
    fallback_after_seconds: float = 600.0
    on_oom: Literal["larger"] | None = None
    max_preemptions: int = 0
    credentials: str = ""

    def to_json(self) -> bytes:
        """Return the canonical bytes, whose digest the flow run's label has."""
        return canonical_json({"version": 1, **asdict(self)})

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read what `to_json` gives."""
        fields = json.loads(data)
        del fields["version"]
        listed = tuple(Candidate(**each) for each in fields.pop("candidates"))
        return cls(candidates=listed, **fields)

    def larger_than(self, candidate: int) -> int | None:
        """Return the first in the list that has more memory than one; None where none has."""
        limit = self.candidates[candidate].memory_gb
        return next(
            (place for place, each in enumerate(self.candidates) if each.memory_gb > limit), None
        )


@dataclass(frozen=True, kw_only=True)
class Round:
    """What is launched at once.

    Attributes:
        candidates: Places in the list; none where nothing is launched any more: whatever follows a
            round is decided by who writes this object, the run's end as well.
        why: Why it was begun, as people read it; empty for the first.
        preemptions: How often the run had been preempted, evicted or lost before it.
        began: When, in seconds since 1970 by the clock of who began it.
    """

    candidates: tuple[int, ...]
    why: str = ""
    preemptions: int = 0
    began: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Who has a round: the candidate that calls the function, or nobody any more.

    Attributes:
        candidate: Its place in the list; None where the round was given up.
        why: Why it was given up, as people read it; empty where it was not.
        is_over: Whether no round follows: the run was cancelled, or has failed.
        goes_back: Whether the next round begins the list anew: what was launched was preempted,
            evicted or lost before it could begin.
    """

    candidate: int | None
    why: str = ""
    is_over: bool = False
    goes_back: bool = False


@dataclass(frozen=True, kw_only=True)
class End:
    """Why the run of the candidate that had a round's claim goes on elsewhere.

    Attributes:
        cause: `out_of_memory`.
        message: What happened, as people read it.
    """

    cause: str
    message: str = field(default="")
