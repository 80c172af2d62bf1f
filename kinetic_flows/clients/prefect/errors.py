"""Errors of Prefect's client, translated into this library's."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar
from urllib.parse import urlsplit

from kinetic_flows.clients.prefect import sdk
from kinetic_flows.clients.prefect.connections import CONNECT_PORT
from kinetic_flows.clients.prefect.sdk import httpx
from kinetic_flows.core.errors import PrefectServerError, PrefectUnreachable, RunNotFoundError
from kinetic_flows.core.waits import waiting_for

P = ParamSpec("P")
R = TypeVar("R")

CSRF_RETRY_SECONDS = (0.05, 0.2, 0.5, 1.0)

HTTP_OUTAGES = frozenset({502, 503, 504})
_HTTP_REFUSALS = frozenset({401, 403})
_HTTP_ELSEWHERE = _HTTP_REFUSALS | {404, 405}
"""What is answered by what is no API: the pages of the UI, for instance."""


def translated(method: Callable[P, R]) -> Callable[P, R]:
    """Turn what Prefect's client raises into this library's errors."""

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        url: str = args[0].url  # type: ignore[attr-defined]
        try:
            with waiting_for(f"the Prefect API at {url}"):
                return _past_other_threads(partial(method, *args, **kwargs))
        except sdk.exceptions.ObjectNotFound as error:
            raise RunNotFoundError(
                f"{url} knows no such flow run: {args[1]}",
                value=args[1],
                hint="list runs with `kinetic runs ls`; is this the API the run was made with?",
            ) from error
        except (sdk.exceptions.PrefectHTTPStatusError, httpx.TransportError) as error:
            raise translation(url, error) from error

    return call


def _past_other_threads(ask: Callable[[], R]) -> R:
    """Ask again where another thread's CSRF token took the place of ours.

    Prefect's server knows one token of each client. Threads that share a client and need one at
    the same time take it from one another, and Prefect's own retries may end first (3.8.8).
    """
    for seconds in CSRF_RETRY_SECONDS:
        try:
            return ask()
        except sdk.exceptions.PrefectHTTPStatusError as error:
            if "Invalid CSRF token" not in error.response.text:
                raise
        time.sleep(seconds * random.uniform(0.5, 1.5))  # noqa: S311
    return ask()


def translation(url: str, error: Exception) -> PrefectServerError:
    """Return this library's error for one of Prefect's client.

    Args:
        url: The API that was asked.
        error: A `PrefectHTTPStatusError` or an `httpx.TransportError`.
    """
    if isinstance(error, sdk.exceptions.PrefectHTTPStatusError):
        return _refused(url, error)
    return PrefectUnreachable(
        f"the Prefect API at {url} cannot be reached: {error}",
        value=url,
        hint=_hint_without_answer(url),
    )


def _hint_without_answer(url: str) -> str:
    parts = urlsplit(url)
    if parts.port == CONNECT_PORT and parts.hostname in ("127.0.0.1", "localhost"):
        return "in a terminal of its own, `kinetic server connect` opens the way to the cluster's"
    return "check PREFECT_API_URL; a background server that has died is started by the next call"


def _refused(url: str, error: Any) -> PrefectServerError:
    code = error.response.status_code
    if code in _HTTP_REFUSALS:
        what = f"the Prefect API at {url} refuses these credentials, or misses some ({code})"
    else:
        text = " ".join(error.response.text[:500].split())
        what = f"the Prefect API at {url} answered {code}: {text}"
    kind = PrefectUnreachable if code in HTTP_OUTAGES else PrefectServerError
    return kind(what, value=code, hint=_hint_at(code, url))


def _hint_at(code: int, url: str) -> str:
    if code in _HTTP_ELSEWHERE and "api" not in urlsplit(url).path.split("/"):
        return f"is it an API's address? it has /api in it: PREFECT_API_URL={url.rstrip('/')}/api"
    if code in _HTTP_REFUSALS:
        return (
            "set PREFECT_API_KEY (Prefect Cloud) or PREFECT_API_AUTH_STRING to valid credentials; "
            "for the background server of a KINETIC_HOME, see `kinetic server env`"
        )
    return "the server's log says more; is its Prefect of the same minor version as yours?"
