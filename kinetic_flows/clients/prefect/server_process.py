"""The program of the background Prefect server: Prefect's own application, kept from waiting.

Prefect's server keeps everything in one SQLite file, which takes one writer at a time, and two
things made it stand still when many calls came together (seen with Prefect 3.8 on Python 3.11):

- Transactions that read and then write collide, and the server answers 503. Here requests that
  write are answered one after the other, in the order in which they came; one that still
  collides with the server's own services is tried again at once.
- The event loop frees an old cursor while it collects garbage, which waits for the mutex of the
  cursor's connection (`cursor_dealloc` calls `sqlite3_reset`, see
  https://github.com/python/cpython/blob/3.11/Modules/_sqlite/cursor.c). A thread that waits for
  a transaction to end holds that mutex, and the transaction waits for the event loop: nothing
  moves until SQLite's busy timeout of 60 s. Here garbage is collected in a thread of its own.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import socket
import threading
import time
from typing import TYPE_CHECKING

from kinetic_flows.clients.prefect.server_access import AUTH_STRING_VARIABLE
from kinetic_flows.clients.prefect.server_gate import Gate
from kinetic_flows.core.processes import LISTENER_DESCRIPTOR

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

COLLECT_SECONDS = 1.0
STARTED_AFTER_TURNS = 20
FULL_COLLECTION_TURNS = 60
COLLISION_TRIES = 50
COLLISION_PAUSE_SECONDS = 0.02
HTTP_UNAVAILABLE = 503
WRITING_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
PRIVATE_UMASK = 0o077
READING_WORDS = ("filter", "count", "paginate", "history")


class OneWriterAtATime:
    """An ASGI application that passes requests on to another, those that write one by one.

    Args:
        app: The application that answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request or connection."""
        if scope["type"] != "http" or not writes(scope["method"], scope["path"]):
            await self._app(scope, receive, send)
            return
        # Read first: no other request is to wait for a client that is slow to send.
        received = await _whole_request(receive)
        async with self._turn:
            for _ in range(COLLISION_TRIES):
                answer = _Answer(send)
                try:
                    # A copy: the application writes into its scope.
                    await self._app(dict(scope), _replayed(received, receive), answer.send)
                except Exception:
                    # Raised for the server's log once its answer, 503 or 500, is sent.
                    if not answer.is_held_back:
                        raise
                if not answer.is_held_back:
                    return
                await asyncio.sleep(COLLISION_PAUSE_SECONDS)
            await answer.release()


class _Answer:
    """What the application sends: passed on, unless it says that two transactions collided."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._held_back: list[Message] = []

    @property
    def is_held_back(self) -> bool:
        return bool(self._held_back)

    async def send(self, message: Message) -> None:
        starts = message["type"] == "http.response.start"
        if self._held_back or (starts and message["status"] == HTTP_UNAVAILABLE):
            self._held_back.append(message)
        else:
            await self._send(message)

    async def release(self) -> None:
        for message in self._held_back:
            await self._send(message)


def writes(method: str, path: str) -> bool:
    """Whether a request to Prefect's API may change something.

    Many of its reads are POST requests, too: those end in a word like `filter` or `count`. A
    token against cross-site requests is written when it is asked for.
    """
    last_words = path.rstrip("/").split("/")[-2:]
    if last_words[-1] == "csrf-token":
        return True
    return method in WRITING_METHODS and not any(w.startswith(READING_WORDS) for w in last_words)


async def _whole_request(receive: Receive) -> list[Message]:
    messages = [await receive()]
    while messages[-1]["type"] == "http.request" and messages[-1].get("more_body", False):
        messages.append(await receive())
    return messages


def _replayed(messages: list[Message], receive: Receive) -> Receive:
    """Return a `receive` that gives these messages first."""
    kept = iter(messages)

    async def next_message() -> Message:
        return next(kept, None) or await receive()

    return next_message


def collect_beside() -> None:
    """Turn automatic garbage collection off; collect in a thread of its own instead."""
    gc.disable()
    threading.Thread(target=_collect_for_ever, daemon=True).start()


def _collect_for_ever() -> None:
    """Collect young garbage often and all of it seldom; what the start made is never looked at.

    To look at everything that Prefect's modules consist of takes most of a second, in which no
    other thread runs.
    """
    for turn in itertools.count(1):
        time.sleep(COLLECT_SECONDS)
        gc.collect(2 if turn % FULL_COLLECTION_TURNS == 0 else 1)
        if turn == STARTED_AFTER_TURNS:
            gc.freeze()


def main(listener: socket.socket, auth_string: str) -> None:
    """Serve Prefect's API and UI until the process is told to end.

    Args:
        listener: A bound socket to listen on.
        auth_string: What Prefect's API asks for.
    """
    # Its database, and what Prefect writes beside it, is its user's own.
    os.umask(PRIVATE_UMASK)
    collect_beside()
    import uvicorn

    from kinetic_flows.clients.prefect.internals import server_application

    app = Gate(OneWriterAtATime(server_application()), auth_string, listener.getsockname()[1])
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run([listener])


if __name__ == "__main__":
    main(socket.socket(fileno=LISTENER_DESCRIPTOR), os.environ[AUTH_STRING_VARIABLE])
