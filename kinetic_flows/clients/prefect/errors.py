"""Errors of Prefect's client, translated into this library's."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from kinetic_flows.clients.prefect import sdk
from kinetic_flows.core.errors import PrefectServerError, PrefectUnreachable

HTTP_OUTAGES = frozenset({502, 503, 504})
_HTTP_REFUSALS = frozenset({401, 403})
_HTTP_ELSEWHERE = _HTTP_REFUSALS | {404, 405}
"""What is answered by what is no API: the pages of the UI, for instance."""


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
        hint="check PREFECT_API_URL; a background server that has died is started by the next call",
    )


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
