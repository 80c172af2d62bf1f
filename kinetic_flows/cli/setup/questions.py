"""The questions of `kinetic init`: few, the likeliest answer first, each checked as it is given.

Whatever can be found out is not asked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from kinetic_flows.cli.questions import asked_text, questionary, validator
from kinetic_flows.cli.setup.options import SetupOptions
from kinetic_flows.core.accelerators import list_accelerators
from kinetic_flows.core.display import for_line
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.settings import values as check
from kinetic_flows.core.settings.cloud import CloudSettings
from kinetic_flows.core.settings.cloud_names import region
from kinetic_flows.platforms.gke.setup.clusters.cluster import FoundCluster
from kinetic_flows.platforms.gke.setup.request import PrefectHome
from kinetic_flows.platforms.gke.setup.survey import FoundProject, accelerators_of

ELSEWHERE = "another one, by its id"
"""For projects that may be used and not listed."""

MANY = 10
"""More choices than these are searched by typing."""

HOMES: Sequence[tuple[PrefectHome, str]] = (
    ("machine", "on this machine, in the background: for yourself"),
    ("cluster", "in the cluster, with PostgreSQL and a worker: for a team"),
    ("cloud", "elsewhere: Prefect Cloud, or a server that you have"),
)


def ask_project(projects: Sequence[FoundProject], default: str | None) -> str:
    """Ask for the project.

    Args:
        projects: Those that the credentials can see.
        default: The one that gcloud or the environment names; None for none.

    Raises:
        KeyboardInterrupt: The person pressed Ctrl-C.
    """
    known = [each.id for each in projects]
    if not known:
        return asked_text("Google Cloud project, by its id", default or "", _is_project)
    choices = [questionary.Choice(_project_title(each), each.id) for each in projects]
    chosen: str = questionary.select(
        "Google Cloud project",
        choices=[*choices, questionary.Choice(ELSEWHERE, "")],
        default=default if default in known else None,
        use_search_filter=len(choices) > MANY,
        use_jk_keys=False,
    ).unsafe_ask()
    return chosen or asked_text("Its id", "", _is_project)


def _project_title(project: FoundProject) -> str:
    is_news = project.title and project.title != project.id
    return for_line(f"{project.id} ({shorten(project.title, 40)})" if is_news else project.id)


def ask_cluster(
    clusters: Sequence[FoundCluster], options: SetupOptions, cloud: CloudSettings
) -> SetupOptions:
    """Ask whether to make a cluster, and what kind, or which one to join.

    Args:
        clusters: Those that are in the project.
        options: What is known already.
        cloud: Which cluster is used, or made if nothing else is said, and where.

    Raises:
        KeyboardInterrupt: The person pressed Ctrl-C.
    """
    zone = cloud.zone
    # What is used, or was made here, perhaps half, is gone on with before anything else is made.
    used = [each for each in clusters if (each.name, each.location) == (cloud.cluster, zone)]
    ours = [each for each in clusters if each.is_made_here and each not in used]
    others = [each for each in clusters if not each.is_made_here and each not in used]
    chosen: str | FoundCluster = questionary.select(
        "GKE cluster",
        choices=[*map(_found, [*used, *ours]), *_new(zone), *map(_found, others)],
        use_jk_keys=False,
    ).unsafe_ask()
    if isinstance(chosen, FoundCluster):
        return replace(
            options, cluster=chosen.name, zone=chosen.location, join=not chosen.is_made_here
        )
    taken = [each.name for each in clusters]
    if cloud.cluster in taken:
        options = replace(options, cluster=_ask_name(cloud.cluster, taken))
    if chosen == "autopilot":
        return replace(options, autopilot=True, zone=region(zone))
    if chosen == "accelerators":
        return _ask_accelerators(options, zone)
    return replace(options, autopilot=False, zone=zone)


def _new(zone: str) -> tuple[Any, ...]:
    """Return the choices of making a cluster."""
    return (
        questionary.Choice(
            f"new: GKE Standard in {zone}, with CPUs",
            "standard",
            description="accelerators can be added at any time: kinetic nodepools add l4",
        ),
        questionary.Choice(
            "new: GKE Standard, with GPUs or TPUs",
            "accelerators",
            description="which ones, and in which zone, is asked next",
        ),
        questionary.Choice(
            f"new: GKE Autopilot in {region(zone)}",
            "autopilot",
            description="Google makes the nodes that runs ask for, and bills by the pod",
        ),
    )


def _ask_name(name: str, taken: Sequence[str]) -> str:
    """Ask for the name of a new cluster, where there is one of the usual name."""

    def accept(text: str) -> None:
        check.cluster(text, "the cluster")
        if text in taken:
            raise KineticError(f"there is a cluster {text} already")

    numbered = (f"{name}-{number}" for number in count(2))
    return asked_text("Its name", next(each for each in numbered if each not in taken), accept)


def _found(cluster: FoundCluster) -> Any:
    """Return the choice of a cluster that is there, with what it has."""
    verb = "go on with" if cluster.is_made_here else "join"
    has = ", ".join(accelerators_of(cluster)) or "no accelerators"
    lacks = f"; {', '.join(cluster.lacks)}" if cluster.lacks else ""
    return questionary.Choice(
        shorten(for_line(f"{verb} {cluster.name} in {cluster.location}: {has}"), 72),
        cluster,
        description=shorten(for_line(f"{_about(cluster)}{lacks}"), 64),
    )


def _about(cluster: FoundCluster) -> str:
    kind = "Autopilot" if cluster.mode == "autopilot" else "Standard"
    nodes = "1 node" if cluster.nodes == 1 else f"{cluster.nodes} nodes"
    status = "" if cluster.status == "RUNNING" else f", {cluster.status.lower()}"
    return f"{kind} {cluster.version.partition('-')[0]}, {nodes} now{status}"


def _ask_accelerators(options: SetupOptions, zone: str) -> SetupOptions:
    names = tuple(sorted(str(each) for each in list_accelerators() if each.category != "cpu"))

    def accept(text: str) -> None:
        if not _words(text):
            raise KineticError("nothing was entered")
        replace(options, accelerator=_words(text)).pools()

    answer = questionary.autocomplete(
        "Accelerators, such as l4 or tpu-v6e-8:spot",
        choices=list(names),
        validate=validator(accept),
    ).unsafe_ask()
    where = asked_text("Zone that has them", zone, lambda text: check.zone(text, "the zone"))
    return replace(options, autopilot=False, accelerator=_words(answer), zone=where)


def _words(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text.replace(",", " ").split()))


def ask_prefect(default: PrefectHome) -> PrefectHome:
    """Ask where Prefect's API is, which keeps and shows runs.

    Args:
        default: Where it is at the moment.

    Raises:
        KeyboardInterrupt: The person pressed Ctrl-C.
    """
    chosen: PrefectHome = questionary.select(
        "Prefect, which keeps and shows runs",
        choices=[questionary.Choice(title, name) for name, title in HOMES],
        default=default,
        use_jk_keys=False,
    ).unsafe_ask()
    return chosen


def ask_prefect_login(default: str) -> tuple[str, str | None]:
    """Ask for the address of a Prefect API and its key, which is not shown.

    Args:
        default: The address that is offered; empty for none.

    Returns:
        The URL, and the key; None where none was given.

    Raises:
        KeyboardInterrupt: The person pressed Ctrl-C.
    """
    url = asked_text("URL of its API, or of a workspace's page in Prefect Cloud", default, _is_url)
    key: str = questionary.password("API key, or user:password, where it asks for one").unsafe_ask()
    return url, key.strip() or None


def shorten(text: str, characters: int) -> str:
    """Return a text, cut where it is longer."""
    return text if len(text) <= characters else f"{text[: characters - 1]}…"


def _is_project(text: str) -> object:
    return check.project(text, "the project")


def _is_url(text: str) -> None:
    if not re.fullmatch(r"https?://[^/\s]+\S*", text):
        raise KineticError("this is no URL", hint="give it with https://, as the browser shows it")
