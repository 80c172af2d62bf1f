"""Fetching over HTTP, with the standard library: ranges, redirects, and trying again.

Proxies are those of the environment, and certificates those of this machine.
"""

from __future__ import annotations

import http.client
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from email.message import Message
from typing import IO, Any
from urllib.parse import urlsplit

from .contract import EXIT_DATA_UNAVAILABLE, READ_BYTES, Fault
from .data_work import Work, time_in_words

TIMEOUT_SECONDS = 60.0
"""How long a server may say nothing."""
TRIES = 9
"""How often a request is sent that brings nothing: for two minutes, as a server may restart."""
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 320.0
"""A little longer than the windows in which the hub counts requests (5 minutes)."""

_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


class HttpRefusal(Exception):
    """A server that answers, and refuses.

    Attributes:
        code: The status.
        headers: What it says.
        text: The beginning of the body.
    """

    def __init__(self, code: int, headers: Message, text: str) -> None:
        super().__init__(f"HTTP {code}")
        self.code = code
        self.headers = headers
        self.text = text


class Unreachable(Exception):
    """A server that does not answer, or not to the end."""


class Http:
    """Requests for one data.

    Args:
        work: Ends waiting when the data is not wanted any more, and says why it takes long.
        environ: This process's environment, which may name certificates.
        token: What `Authorization` bears; None for nothing. It is sent to `home` alone.
        home: The URL of the server that the token is for.
    """

    def __init__(
        self, work: Work, environ: Mapping[str, str], token: str | None = None, home: str = ""
    ) -> None:
        self._work = work
        self._token = token
        self._home = _origin(home)
        https = urllib.request.HTTPSHandler(context=_context(environ))
        self._opener = urllib.request.build_opener(_Redirects(), https)

    def read(self, url: str, data: bytes | None = None, content: str = "") -> tuple[bytes, Message]:
        """Return a whole answer and its headers; as `stream`.

        Args:
            url: Its address.
            data: What is sent with POST; None for GET.
            content: The type of that.
        """
        for attempt in _Attempts(self._work, url):
            with attempt, self._open(url, {}, data, content) as answer:
                body: bytes = answer.read()
                return body, answer.headers
        raise AssertionError

    def stream(self, url: str, begin: int, end: int | None) -> Iterator[bytes]:
        """Yield the bytes of a file from one position to another, going on where it breaks off.

        Args:
            url: Its address.
            begin: The first byte.
            end: The one behind the last; None for all that there are.

        Raises:
            HttpRefusal: The server refuses.
            Unreachable: It does not answer.
        """
        position = begin
        attempts = _Attempts(self._work, url)
        for attempt in attempts:
            with attempt:
                for piece in self._pieces(url, position, end):
                    position += len(piece)
                    # What brings something is worth going on with.
                    attempts.forget()
                    yield piece
                return

    def _pieces(self, url: str, begin: int, end: int | None) -> Iterator[bytes]:
        if end is not None and begin >= end:
            return
        headers = {}
        if begin or end is not None:
            headers["Range"] = f"bytes={begin}-{'' if end is None else end - 1}"
        with self._open(url, headers) as answer:
            skipped = 0 if answer.status == 206 else begin
            left = None if end is None else end - begin
            yield from _cut(answer, skipped, left)

    def _open(
        self, url: str, headers: Mapping[str, str], data: bytes | None = None, content: str = ""
    ) -> Any:
        request = urllib.request.Request(url, data)  # noqa: S310 - the client has checked it
        # What is compressed on the way would have another size.
        request.add_header("Accept-Encoding", "identity")
        request.add_header("User-Agent", "kinetic-runner")
        for name, value in headers.items():
            request.add_header(name, value)
        if content:
            request.add_header("Content-Type", content)
        if self._token and _origin(url) == self._home:
            request.add_header("Authorization", f"Bearer {self._token}")
        try:
            return self._opener.open(request, timeout=TIMEOUT_SECONDS)
        except urllib.error.HTTPError as error:
            with error:
                text = error.read(2000).decode(errors="replace")
            raise HttpRefusal(error.code, error.headers, text) from error


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, with the token to the same server alone, and never out of TLS."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Return the request that is sent instead."""
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            server = urlsplit(newurl).netloc
            raise Unreachable(f"{urlsplit(req.full_url).netloc} redirects to {server} without TLS")
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request and _origin(newurl) != _origin(req.full_url):
            request.remove_header("Authorization")
        return request


class _Attempts:
    """Tries of one request, with pauses that grow, or are as long as the server says."""

    def __init__(self, work: Work, url: str) -> None:
        self._work = work
        self._url = url
        self._failed = 0
        self._pause_seconds = 0.0

    def __iter__(self) -> Iterator[_Attempts]:
        while True:
            self._work.check()
            yield self
            self._work.wait(self._pause_seconds)

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, HttpRefusal) and error.code in _AGAIN:
            return self._is_tried_again(f"it answers {error.code}", _asked_pause(error.headers))
        if not isinstance(error, http.client.HTTPException | OSError):
            return False
        reason = getattr(error, "reason", None) or error
        is_final = isinstance(reason, ssl.SSLCertVerificationError)
        if not is_final and self._is_tried_again(str(reason), None):
            return True
        who = _asked(self._url)
        raise Unreachable(f"{who} does not answer as it should: {reason}") from error

    def forget(self) -> None:
        """Begin to count anew."""
        self._failed = 0

    def _is_tried_again(self, why: str, asked_seconds: float | None) -> bool:
        self._failed += 1
        if self._failed >= TRIES:
            return False
        self._pause_seconds = FIRST_PAUSE_SECONDS * 2 ** (self._failed - 1)
        if asked_seconds is not None:
            self._pause_seconds = min(max(asked_seconds, 0.1), LONGEST_PAUSE_SECONDS)
        if self._pause_seconds >= 5:
            pause = time_in_words(self._pause_seconds)
            who = _asked(self._url)
            self._work.say_once(f"{self._work.what}: {who} is tried again in {pause}: {why}")
        return True


def _cut(answer: Any, skipped: int, left: int | None) -> Iterator[bytes]:
    """Yield what is wanted of an answer, which may begin before it and go on after it."""
    while left is None or left > 0:
        piece = answer.read(READ_BYTES)
        if not piece:
            break
        if skipped >= len(piece):
            skipped -= len(piece)
            continue
        piece = piece[skipped:]
        skipped = 0
        if left is not None:
            piece = piece[:left]
            left -= len(piece)
        yield piece
    # The standard library says nothing of an answer that ends too early, when it is read in pieces.
    if answer.length or left:
        raise http.client.IncompleteRead(b"", answer.length or left)


def _asked_pause(headers: Message) -> float | None:
    """Return how many seconds the server asks to wait; None where it does not say.

    `Retry-After` (RFC 9110, section 10.2.3), or the `t=` of `RateLimit`, which the hub sends
    (https://huggingface.co/docs/hub/rate-limits).
    """
    after = headers.get("Retry-After") or ""
    if after.strip().isdigit():
        return float(after)
    for part in (headers.get("RateLimit") or "").split(";"):
        name, _, value = part.strip().partition("=")
        if name == "t" and value.isdigit():
            return float(value)
    return None


def _asked(url: str) -> str:
    """Return who is asked: a server, and the proxy that is on the way to it."""
    parts = urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if not proxy or urllib.request.proxy_bypass(parts.hostname or ""):
        return parts.netloc
    # It may have a password before its name.
    return f"{parts.netloc} (by the proxy {proxy.rpartition('@')[2]})"


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _context(environ: Mapping[str, str]) -> ssl.SSLContext:
    """Return what certificates are checked with: those that are named, else this machine's."""
    named = next((environ[name] for name in _BUNDLES if environ.get(name)), None)
    if named and os.path.isfile(named):
        return ssl.create_default_context(cafile=named)
    places = ssl.get_default_verify_paths()
    if not places.cafile and not (places.capath and os.listdir(places.capath)):
        try:
            import certifi
        except ImportError:
            pass
        else:
            return ssl.create_default_context(cafile=certifi.where())
    return ssl.create_default_context()


def unavailable(what: str, error: Exception) -> Fault:
    """Return what a run fails with whose data cannot be fetched."""
    return Fault(EXIT_DATA_UNAVAILABLE, f"{what} cannot be fetched: {error}")
