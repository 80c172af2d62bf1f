"""Reading what is kept of how a run ended: its hosts' black boxes, and what its cluster said."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.errors import KineticError, ObjectNotFoundError, StoreError
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.object_names import BLACK_BOX, RUNS, facts_object, job_object
from kinetic_flows.core.process_facts import ProcessFacts, facts_of
from kinetic_flows.platforms.base import Platform
from kinetic_flows.runs.insight.evidence import BlackBox, box_of

PARALLEL = 16
MOST_BYTES = 1 << 20
"""A larger object is no black box of a runner's."""

NOT_SEEN = "how its processes ended: they are where they cannot be seen from here"


def read_boxes(store: ArtifactStore, run_id: str) -> tuple[BlackBox, ...]:
    """Return the black boxes of a run's hosts, by their numbers; those of its last round.

    Args:
        store: Where objects are.
        run_id: The run.

    Raises:
        StoreError: They cannot be read.
    """
    found: dict[str, list[str]] = {}
    for item in store.list(f"{RUNS}/{run_id}/"):
        place, is_box, name = item.name.partition(f"/{BLACK_BOX}")
        if is_box and name.startswith("host-") and item.size_bytes <= MOST_BYTES:
            found.setdefault(place, []).append(item.name)
    if not found:
        return ()
    last = max(found, key=_round_of)
    with ThreadPoolExecutor(PARALLEL) as pool:
        boxes = pool.map(lambda name: _read_box(store, name, run_id), found[last])
        return tuple(sorted((box for box in boxes if box), key=lambda box: box.host))


def _round_of(place: str) -> int:
    number = place.rpartition("/rounds/")[2]
    return int(number) if number.isdigit() else -1


def _read_box(store: ArtifactStore, name: str, run_id: str) -> BlackBox | None:
    try:
        return box_of(store.get(name).data, run_id)
    except ObjectNotFoundError:
        return None


def read_facts(store: ArtifactStore, run_id: str) -> ProcessFacts | None:
    """Return what was kept of what a run's cluster said; None where nobody has asked it.

    Args:
        store: Where objects are.
        run_id: The run.

    Raises:
        StoreError: It cannot be read.
    """
    try:
        document = json.loads(store.get(facts_object(run_id)).data)
    except (ObjectNotFoundError, ValueError):
        return None
    return facts_of(document) if isinstance(document, dict) else None


def ask_for_facts(platform: Platform, run: RunTicket) -> ProcessFacts:
    """Return what whoever ran a run's processes knows of them now; what is not told is named.

    Args:
        platform: Where the run was.
        run: The run.
    """
    try:
        if not platform.sees(run.place) or not platform.may_see_processes:
            return ProcessFacts(unknown=(NOT_SEEN,))
        launcher = platform.launcher
        launches = launcher.launches(run.run_id) if run.candidates else ()
        return launcher.facts(launches[-1] if launches else run.run_id)
    except KineticError as error:
        return ProcessFacts(unknown=(f"how its processes ended: {error.message}",))


def keep_facts(platform: Platform, run: RunTicket) -> bool:
    """Keep what a run's cluster says of its end, before it forgets; whether this call did.

    Args:
        platform: Where the run was.
        run: The run, which has ended.
    """
    with suppress(StoreError):
        name = facts_object(run.run_id)
        if not platform.store.missing([name]):
            return False
        facts = ask_for_facts(platform, run)
        if facts.ends or facts.nodes:
            return platform.store.put_if_absent(name, json.dumps(facts.document()).encode())
    return False


def hosts_of(store: ArtifactStore, run_id: str) -> int:
    """Return how many hosts a run has, as its job says; 1 where that cannot be read.

    Args:
        store: Where objects are.
        run_id: The run.
    """
    try:
        hosts = json.loads(store.get(job_object(run_id)).data).get("hosts")
    except (StoreError, ValueError, AttributeError):
        return 1
    return hosts if isinstance(hosts, int) and hosts > 0 else 1
