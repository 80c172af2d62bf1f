"""How a Prefect API is: whether it answers, as which version, and which workers it hears of."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, TypeVar
from urllib.parse import urlsplit

from packaging.version import InvalidVersion, Version

from kinetic_flows.clients.prefect import sdk
from kinetic_flows.clients.prefect.api import connect, short_retries
from kinetic_flows.clients.prefect.errors import translation
from kinetic_flows.clients.prefect.sdk import httpx
from kinetic_flows.core.clocks import ServerTime

T = TypeVar("T")

CLOUD_DOMAIN = "prefect.cloud"


@dataclass(frozen=True, kw_only=True)
class ApiCondition:
    """What an API answers when it is asked who it is.

    Attributes:
        url: The API.
        version: The version of Prefect that it runs; empty for Prefect Cloud, which goes with
            every client.
        time: What it says the time is.
    """

    url: str
    version: str
    time: ServerTime


def is_cloud(api_url: str) -> bool:
    """Whether an API is Prefect Cloud's."""
    host = urlsplit(api_url).hostname or ""
    return host == CLOUD_DOMAIN or host.endswith(f".{CLOUD_DOMAIN}")


def ask_condition(api_url: str) -> ApiCondition:
    """Ask an API who it is, once.

    Raises:
        PrefectServerError: It refuses these credentials, or does not answer.
    """

    def ask(client: Any) -> ApiCondition:
        asked_at = time.time()
        if is_cloud(api_url):
            # It tells no version; what costs it nothing shows that the key is taken.
            answer = client.request("POST", "/flows/count", json={})
        else:
            answer = client.request("GET", "/admin/version")
        told = ServerTime(
            server="Prefect",
            date=answer.headers.get("Date", ""),
            asked_at=asked_at,
            answered_at=time.time(),
        )
        found = "" if is_cloud(api_url) else str(answer.json())
        return ApiCondition(url=api_url, version=found, time=told)

    return _ask(api_url, ask)


def online_workers(api_url: str, pool: str) -> tuple[str, ...] | None:
    """Return the names of a work pool's workers that Prefect hears of; None without the work pool.

    Args:
        api_url: The API.
        pool: The work pool.

    Raises:
        PrefectServerError: Prefect refuses, or does not answer.
    """

    def ask(client: Any) -> tuple[str, ...] | None:
        try:
            answer = client.request(
                "POST",
                "/work_pools/{work_pool_name}/workers/filter",
                path_params={"work_pool_name": pool},
                json={},
            )
        except sdk.exceptions.ObjectNotFound:
            return None
        return tuple(sorted(each["name"] for each in answer.json() if each["status"] == "ONLINE"))

    return _ask(api_url, ask)


def version_difference(server: str) -> tuple[bool, str]:
    """Return whether a server goes with this client, and what is to be said of their versions.

    A server has to know what its clients ask for: it is of the same major version, and no older, as
    Prefect's own client says (`raise_for_api_version_mismatch`, 3.8.8). Of releases that only mend
    something any will do.

    Args:
        server: The server's version; empty for Prefect Cloud.
    """
    own = version("prefect")
    if not server:
        return True, f"Prefect Cloud, with Prefect {own} here"
    try:
        theirs, ours = Version(server), Version(own)
    except InvalidVersion:
        return True, f"Prefect {server}, with Prefect {own} here"
    fits = theirs.major == ours.major and theirs.release[:2] >= ours.release[:2]
    return fits, f"Prefect {server}" + (", as here" if theirs == ours else f", with {own} here")


def _ask(api_url: str, question: Callable[[Any], T]) -> T:
    try:
        with short_retries(0), connect(api_url) as api:
            return question(api.client)
    except (sdk.exceptions.PrefectHTTPStatusError, httpx.TransportError) as error:
        raise translation(api_url, error) from error
