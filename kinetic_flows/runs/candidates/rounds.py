"""The rounds of a run in the store, where everything that is decided is an object made once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.candidates import Candidates, Claim, End, Round
from kinetic_flows.core.errors import ObjectNotFoundError, ObjectRefusedError
from kinetic_flows.core.job import canonical_json, sha256_hex
from kinetic_flows.core.object_names import (
    candidates_object,
    claim_object,
    result_object,
    round_end_object,
    round_object,
    round_told_object,
)


@dataclass(frozen=True, kw_only=True)
class RoundState:
    """A round as the store has it.

    Attributes:
        round: What was launched; a round of no candidates ends the run.
        claim: Who has it; None while it is open.
        end: Why the run of the candidate that had it goes on elsewhere; None where it does not.
    """

    round: Round
    claim: Claim | None = None
    end: End | None = None

    @property
    def winner(self) -> int | None:
        """The candidate that calls the function; None where none does, or not yet."""
        return self.claim.candidate if self.claim else None

    @property
    def is_settled(self) -> bool:
        """Whether the store says no more of it."""
        return not self.round.candidates or (
            self.claim is not None and (self.claim.candidate is None or self.end is not None)
        )


class Rounds:
    """The rounds of one run.

    Args:
        store: Where its objects are.
        run_id: The run's id.
    """

    def __init__(self, store: ArtifactStore, run_id: str) -> None:
        self._store = store
        self._run_id = run_id
        self._known: list[RoundState] = []

    def candidates(self, sha256: str) -> Candidates | None:
        """Return the accelerators the run may go on; None while that is not written.

        Args:
            sha256: The digest that its flow run's label has.

        Raises:
            ObjectRefusedError: It is something else.
        """
        name = candidates_object(self._run_id)
        data = self._read(name)
        if data is None:
            return None
        if sha256_hex(data) != sha256:
            raise ObjectRefusedError(
                f"the object {name} is refused: it is not what the run was started with",
                value=name,
                hint="somebody wrote to the store; cancel the run, and call the function again",
            )
        return Candidates.from_json(data)

    def known(self) -> tuple[RoundState, ...]:
        """Return the rounds as they were when last read."""
        return tuple(self._known)

    def read(self) -> tuple[RoundState, ...]:
        """Return the rounds as they are now."""
        for number, state in enumerate(self._known):
            if not state.is_settled:
                self._known[number] = self._rest(number, state)
        while (data := self._json(round_object(self._run_id, len(self._known)))) is not None:
            begun = Round(**{**data, "candidates": tuple(data["candidates"])})
            self._known.append(self._rest(len(self._known), RoundState(round=begun)))
        return tuple(self._known)

    def begin(self, number: int, begun: Round) -> bool:
        """Begin a round, unless somebody has; return whether it was begun with this."""
        return self._write(round_object(self._run_id, number), begun)

    def claim(self, number: int, claim: Claim) -> bool:
        """Take a round's claim, unless somebody has it; return whether it was taken."""
        return self._write(claim_object(self._run_id, number), claim)

    def end(self, number: int, end: End) -> None:
        """Say why the run goes on elsewhere, unless its runner has."""
        self._write(round_end_object(self._run_id, number), end)

    def is_told(self, number: int) -> bool:
        """Whether the run's log and labels say who has a round's claim."""
        return not self._store.missing([round_told_object(self._run_id, number)])

    def tell(self, number: int) -> bool:
        """Note that they do; return whether nobody has before."""
        return self._store.put_if_absent(round_told_object(self._run_id, number), b"{}")

    def has_result(self) -> bool:
        """Whether the run has left its result."""
        return not self._store.missing([result_object(self._run_id)])

    def _rest(self, number: int, state: RoundState) -> RoundState:
        claim, end = state.claim, state.end
        if claim is None and (data := self._json(claim_object(self._run_id, number))) is not None:
            claim = Claim(**_fields(Claim, data))
        if claim is not None and claim.candidate is not None and end is None:
            data = self._json(round_end_object(self._run_id, number))
            end = None if data is None else End(**_fields(End, data))
        return RoundState(round=state.round, claim=claim, end=end)

    def _write(self, name: str, what: Any) -> bool:
        return self._store.put_if_absent(name, canonical_json(asdict(what)))

    def _json(self, name: str) -> dict[str, Any] | None:
        data = self._read(name)
        return None if data is None else json.loads(data)

    def _read(self, name: str) -> bytes | None:
        try:
            return self._store.get(name).data
        except ObjectNotFoundError:
            return None


def _fields(kind: Any, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that this version knows: a later one may write more."""
    return {name: value for name, value in data.items() if name in kind.__dataclass_fields__}
