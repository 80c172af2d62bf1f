"""Threads that this process does not wait for when it ends, and connections for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from .contract import Fault

CONNECTIONS = 32


def run_in_threads(pools: Iterable[tuple[int, list[Callable[[], None]]]]) -> None:
    """Run jobs, those of each pool in so many threads; raise the first error one has raised.

    This process ends without waiting for them.
    """
    errors: list[Exception] = []

    def work(jobs: Iterator[Callable[[], None]], lock: threading.Lock) -> None:
        while not errors:
            with lock:
                job = next(jobs, None)
            if job is None:
                return
            try:
                job()
            except (Fault, OSError) as error:
                errors.append(error)

    threads = []
    for count, jobs in pools:
        waiting, lock = iter(jobs), threading.Lock()
        its_work = partial(work, waiting, lock)
        threads += [in_background(its_work) for _ in range(min(count, len(jobs)))]
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def in_background(work: Callable[[], None]) -> threading.Thread:
    """Start a thread."""
    thread = threading.Thread(target=work, name="compile-cache", daemon=True)
    thread.start()
    return thread


def widen(client: Any) -> None:
    """Let a client keep as many connections as threads may use at once.

    By default it is ten, and what is more is thrown away with a warning for each
    (https://requests.readthedocs.io/en/latest/api/#requests.adapters.HTTPAdapter).

    Args:
        client: A `google.cloud.storage.Client` that nobody uses yet; None for a directory.
    """
    session = getattr(client, "_http", None)
    if session is None:
        return
    for scheme in ("https://", "http://"):
        kind = type(session.get_adapter(scheme))
        session.mount(scheme, kind(pool_maxsize=CONNECTIONS))
