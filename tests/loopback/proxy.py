"""A handler that passes requests on to another server, so that its answers can be spoiled."""

from __future__ import annotations

from http.client import HTTPConnection
from urllib.parse import urlsplit

from loopback.wire import Handler, Request, Response

HOP_HEADERS = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "content-length", "te", "upgrade"}
)
"""Headers that belong to one connection (RFC 9110, section 7.6.1), or that are made anew."""


def forward_to(upstream: str) -> Handler:
    """Return a handler that passes requests on to `http://host:port`.

    The `Host` header is kept, so that the upstream makes its links to the proxy.
    """
    address = urlsplit(upstream).netloc

    def forward(request: Request) -> Response:
        connection = HTTPConnection(address, timeout=120)
        try:
            # A header that is sent several times (containers/image's Accept) is one list.
            headers = {
                name: ", ".join(request.headers.get_all(name, []))
                for name in request.headers
                if name.lower() not in HOP_HEADERS
            }
            connection.request(request.method, request.target, request.body, headers)
            answer = connection.getresponse()
            body = answer.read()
            kept = {k: v for k, v in answer.getheaders() if k.lower() not in HOP_HEADERS}
            length = answer.getheader("Content-Length")
        finally:
            connection.close()
        known = int(length) if length and request.method == "HEAD" else None
        return Response(status=answer.status, headers=kept, body=body, length=known)

    return forward
