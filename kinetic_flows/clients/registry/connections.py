"""Connections to registries and to what belongs to them, and what went over them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeAlias

from kinetic_flows.clients.retry import Transient
from kinetic_flows.core.interruption import pause
from kinetic_flows.core.lazy import LazyModule

if TYPE_CHECKING:
    import httpx
else:
    httpx = LazyModule("httpx")

RETRIED_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
MAX_BODY_BYTES = 16 << 20
MOST_CONNECTIONS = 32
"""Connections of one client: threads beyond them wait for one another."""

Body: TypeAlias = Callable[[], Iterable[bytes]]


class RegistryUnreachable(Exception):
    """No usable answer came within the tries and the time allowed.

    Args:
        problem: What was wrong with the last try.
        status: The status that it was answered with; None when it was not.
    """

    def __init__(self, problem: str, status: int | None = None) -> None:
        super().__init__(problem)
        self.status = status


@dataclass(frozen=True, kw_only=True)
class RegistryLimits:
    """Timeouts, tries and pauses of requests to a registry.

    Attributes:
        connect_seconds: Until a connection stands.
        read_seconds: Until the next byte arrives, or is taken.
        total_seconds: For one question, all its requests and tries together.
        commit_seconds: Until a registry says that it has a blob that was sent whole: it computes
            its digest, and moves it to where it stays.
        tries: How often one request is sent.
        backoff_seconds: Pause after the first failed try; doubled after each.
        max_retry_after_seconds: The longest `Retry-After` that is waited for.
        chunk_bytes: The most that is sent in one request, where a registry takes chunks.
    """

    connect_seconds: float = 10.0
    read_seconds: float = 30.0
    total_seconds: float = 120.0
    commit_seconds: float = 300.0
    tries: int = 5
    backoff_seconds: float = 0.5
    max_retry_after_seconds: float = 60.0
    chunk_bytes: int = 32 << 20

    @property
    def pauses_seconds(self) -> list[float]:
        """The pauses between the tries of one request."""
        return [self.backoff_seconds * 2**number for number in range(self.tries - 1)]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A registry's answer, read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, kw_only=True)
class OpenAnswer:
    """A registry's answer whose body is still to be read, piece by piece.

    Attributes:
        url: Who answered, after redirects.
        status: The status.
        headers: The headers.
        pieces: The body; reading it raises `Transient` when it breaks off.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    pieces: Iterator[bytes]

    def read(self) -> Answer:
        """Return the answer, read whole.

        Raises:
            RegistryUnreachable: It is too large for one that is read whole.
        """
        body = bytearray()
        for piece in self.pieces:
            body += piece
            if len(body) > MAX_BODY_BYTES:
                raise RegistryUnreachable(f"it answered with more than {MAX_BODY_BYTES} bytes")
        return Answer(status=self.status, headers=self.headers, body=bytes(body))


class Connections:
    """The connections of one client, which its threads share.

    Args:
        limits: How patient to be.

    Attributes:
        requests: How many requests were sent, redirected ones included.
        sent_bytes: How many bytes of bodies were sent, those of tries that failed included.
    """

    def __init__(self, limits: RegistryLimits) -> None:
        self.requests = 0
        self.sent_bytes = 0
        self._limits = limits
        self._client: httpx.Client | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close them."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def start(
        self, method: str, url: str, *, body: Body | None = None, **parts: Any
    ) -> httpx.Response:
        """Send a request once, and return its answer, whose body is still to be read and closed.

        Args:
            method: The method.
            url: Where to.
            body: Opens what is sent, of the length that the headers say; None for nothing.
            **parts: Further parts of httpx's requests.

        Raises:
            Transient: There is no answer.
        """
        client = self._open()
        if body is not None:
            parts["content"] = self._counted(body())
        try:
            # A redirected body would have to be read again, which httpx does not do.
            return client.send(
                client.build_request(method, url, **parts),
                stream=True,
                follow_redirects=method in ("GET", "HEAD"),
            )
        except (httpx.HTTPError, OSError) as error:
            raise self.transient(f"{type(error).__name__}: {error}") from error

    def opened(self, response: httpx.Response) -> OpenAnswer:
        """Return the answer of a request that was started.

        Raises:
            Transient: The registry is busy.
        """
        if response.status_code in RETRIED_STATUSES:
            raise Transient(
                self._unreachable(f"it answered {response.status_code}", response.status_code),
                self._retry_after(response.headers),
            )
        return OpenAnswer(
            url=str(response.url),
            status=response.status_code,
            headers=response.headers,
            pieces=self._pieces(response),
        )

    def timeout(self, read_seconds: float | None = None) -> httpx.Timeout:
        """Return how long a request may wait; None for the limit of all requests' answers."""
        limits = self._limits
        return httpx.Timeout(
            limits.read_seconds if read_seconds is None else read_seconds,
            connect=limits.connect_seconds,
            write=limits.read_seconds,
            pool=None,
        )

    def transient(self, problem: str) -> Transient:
        """Return the failure of a try that another one may make good."""
        return Transient(self._unreachable(problem))

    def _unreachable(self, problem: str, status: int | None = None) -> RegistryUnreachable:
        return RegistryUnreachable(f"{problem} ({self._limits.tries} tries)", status)

    def _counted(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            pause(0)
            yield piece
            with self._lock:
                self.sent_bytes += len(piece)

    def _pieces(self, response: httpx.Response) -> Iterator[bytes]:
        try:
            yield from response.iter_raw()
        except (httpx.HTTPError, OSError) as error:
            raise self.transient(f"{type(error).__name__}: {error}") from error

    def _retry_after(self, headers: Mapping[str, str]) -> float | None:
        """Return the seconds an answer asks to wait for (RFC 9110, section 10.2.3)."""
        text = headers.get("retry-after", "")
        if text.isdigit():
            return min(float(text), self._limits.max_retry_after_seconds)
        try:
            wanted = parsedate_to_datetime(text).timestamp() - time.time()
        except (TypeError, ValueError):
            return None
        return min(max(wanted, 0.0), self._limits.max_retry_after_seconds)

    def _open(self) -> httpx.Client:
        with self._lock:
            if self._client is None:
                # Blobs are often served elsewhere; httpx drops the token when the host changes.
                self._client = httpx.Client(
                    timeout=self.timeout(),
                    limits=httpx.Limits(
                        max_connections=MOST_CONNECTIONS,
                        max_keepalive_connections=MOST_CONNECTIONS,
                    ),
                    headers={"User-Agent": "kinetic", "Accept-Encoding": "identity"},
                    event_hooks={"request": [self._count]},
                )
            return self._client

    def _count(self, _: httpx.Request) -> None:
        with self._lock:
            self.requests += 1
