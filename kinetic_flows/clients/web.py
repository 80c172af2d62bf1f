"""Files of the web that runs fetch: whether they are there; and what time a server says it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.core.waits import waiting_for

if TYPE_CHECKING:
    import httpx
else:
    httpx = LazyModule("httpx")

TIMEOUT_SECONDS = 10.0
MOST_REDIRECTS = 5

_GONE = (404, 410)


def look_at(url: str) -> int | None:
    """Return the size of a file, if its server tells.

    Where its server does not answer, or not to this machine, the run may still get it.

    Args:
        url: Its address.

    Raises:
        UsageError: It is not there, or the address cannot be.
    """
    shown = url.partition("?")[0]
    try:
        with (
            waiting_for(httpx.URL(url).host),
            httpx.Client(follow_redirects=True, max_redirects=MOST_REDIRECTS) as client,
        ):
            answer = client.head(
                url,
                timeout=TIMEOUT_SECONDS,
                headers={"User-Agent": "kinetic-flows", "Accept-Encoding": "identity"},
            )
    except httpx.InvalidURL as error:
        raise UsageError(f"{shown} is no address: {error}", value=shown, hint="check it") from error
    except (httpx.HTTPError, OSError):
        return None
    if answer.status_code in _GONE:
        raise UsageError(
            f"{shown} is not there: its server answers {answer.status_code}",
            value=shown,
            hint="check the address",
        )
    size = answer.headers.get("Content-Length", "")
    return int(size) if answer.is_success and size.isdigit() else None


def answered_date(url: str) -> str | None:
    """Return the `Date` header of a server's answer, whatever it answers; None for no answer.

    Args:
        url: Its address.
    """
    try:
        with httpx.Client() as client:
            answer = client.head(
                url, timeout=TIMEOUT_SECONDS, headers={"User-Agent": "kinetic-flows"}
            )
    except (httpx.HTTPError, OSError):
        return None
    return str(answer.headers.get("Date", ""))
