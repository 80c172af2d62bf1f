"""Which clients of this machine drive which flow runs; state updates that wait for Prefect."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import UUID

from kinetic_flows.clients.prefect.api import PrefectApi
from kinetic_flows.core.errors import PrefectServerError, PrefectUnreachable, RunNotFoundError
from kinetic_flows.core.files import private_directory, write_atomically
from kinetic_flows.core.processes import ProcessIdentity, current_process, hold, liveness
from kinetic_flows.runs.settle import crash

logger = logging.getLogger(__name__)

PENDING_SUFFIX = ".owed"
"""Of the entries for state updates that are still to be sent to Prefect."""

LIFE_SUFFIX = ".alive"
"""Of the files that clients hold a lock on while they drive a flow run."""

DAMAGED_SUFFIX = ".damaged"
"""Of entries that cannot be read, and are looked at no more."""


class ClientLedger:
    """Which processes of this machine drive which parent flow runs.

    A client that dies cannot end its own flow run; the next one finds its entry here.

    Args:
        directory: Where the entries are, one file per parent flow run.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._held: dict[str, int] = {}

    def enter(self, flow_run_id: str) -> None:
        """Note that this process drives a flow run."""
        if flow_run_id not in self._held:
            private_directory(self._directory)
            with suppress(BlockingIOError):  # another part of this process holds it
                self._held[flow_run_id] = hold(self._directory / f"{flow_run_id}{LIFE_SUFFIX}")
        self._write(f"{flow_run_id}.json", asdict(current_process()))

    def leave(self, flow_run_id: str) -> None:
        """Note that it does so no longer: its final state is set, or kept to be set."""
        with suppress(OSError):
            _remove(self._directory / f"{flow_run_id}.json")
        held = self._held.pop(flow_run_id, None)
        if held is not None:
            os.close(held)

    @contextmanager
    def entered(self, flow_run_id: str) -> Iterator[None]:
        """Note that this process drives a flow run, for as long as it does."""
        self.enter(flow_run_id)
        try:
            yield
        finally:
            self.leave(flow_run_id)

    def add_pending_update(
        self, api_url: str, flow_run_id: str, state_type: str, message: str
    ) -> bool:
        """Keep a final state that an API could not be told, for the next session.

        Args:
            api_url: The API.
            flow_run_id: The flow run.
            state_type: Prefect's type of the state.
            message: What the UI is to show beside it.

        Returns:
            Whether it could be written; a full disk must not hide how the flow run ended.
        """
        update = {"api_url": api_url, "state_type": state_type, "message": message}
        try:
            self._write(f"{flow_run_id}{PENDING_SUFFIX}", update)
        except OSError as error:
            logger.warning("the state of flow run %s cannot be kept: %s", flow_run_id, error)
            return False
        return True

    def send_pending_updates(self, api: PrefectApi) -> None:
        """Set the final states that this API could not be told before, if it answers now."""
        for entry in self._entries(PENDING_SUFFIX):
            update = _read(entry, "api_url", "state_type", "message")
            if update is None or update["api_url"] != api.url:
                continue
            try:
                with suppress(RunNotFoundError):
                    api.set_state(entry.stem, update["state_type"], message=update["message"])
            except PrefectUnreachable:
                return
            except PrefectServerError:
                continue
            except ValueError:  # no such type of states
                _put_aside(entry)
                continue
            entry.unlink(missing_ok=True)

    def pending_updates(self) -> list[str]:
        """Return the flow runs whose final states an API is still to be told."""
        return [entry.stem for entry in self._entries(PENDING_SUFFIX)]

    def orphans(self) -> list[str]:
        """Return the flow runs of clients that have died."""
        return [entry.stem for entry in self._entries(".json") if _is_orphan(entry)]

    def crash_orphans(self, api: PrefectApi) -> int:
        """End the flow runs of dead clients; return how many there were."""
        ended = self.orphans()
        for flow_run_id in ended:
            with suppress(RunNotFoundError):
                crash(api, flow_run_id, "the client that drove this run has died")
            _remove(self._directory / f"{flow_run_id}.json")
        return len(ended)

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        """Write an entry atomically."""
        write_atomically(self._directory / name, json.dumps(content).encode())

    def _entries(self, suffix: str) -> list[Path]:
        """Return the entries of one kind; what is named after no flow run is put aside."""
        found = []
        for entry in self._directory.glob(f"[!.]*{suffix}"):
            try:
                UUID(entry.stem)
            except ValueError:
                _put_aside(entry)
            else:
                found.append(entry)
        return found


def _is_orphan(entry: Path) -> bool:
    """Whether an entry is of a client that has died."""
    fields = _read(entry, "pid", "started")
    if fields is None:
        return False
    client = ProcessIdentity.read(fields)
    return liveness(client, entry.with_suffix(LIFE_SUFFIX)) == "dead"


def _remove(entry: Path) -> None:
    """Remove a client's entry; its lock last, by which others know that it lives."""
    entry.unlink(missing_ok=True)
    entry.with_suffix(LIFE_SUFFIX).unlink(missing_ok=True)


def _read(entry: Path, *names: str) -> dict[str, Any] | None:
    """Return an entry's fields; None when it is gone, or is damaged and put aside."""
    try:
        fields = json.loads(entry.read_bytes())
        return {**fields, **{name: fields[name] for name in names}}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        _put_aside(entry)
        return None


def _put_aside(entry: Path) -> None:
    """Rename a damaged entry, so that it is read no more and can still be looked at."""
    aside = entry.with_name(entry.name + DAMAGED_SUFFIX)
    with suppress(OSError):
        entry.replace(aside)
        logger.warning("the record %s is damaged, and was put aside as %s", entry, aside.name)
