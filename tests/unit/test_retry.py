"""How requests are sent again: so often, after such pauses, and with which failure at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from kinetic_flows.clients.retry import Transient, insist, insist_within_loop


class Server:
    """Fails as it is told to, then answers."""

    def __init__(self, *failures: Exception) -> None:
        self._failures: Iterator[Exception] = iter(failures)
        self.tries = 0

    def ask(self) -> str:
        self.tries += 1
        failure = next(self._failures, None)
        if failure is not None:
            raise failure from OSError("refused")
        return "answer"

    async def ask_later(self) -> str:
        return self.ask()


def busy(words: str = "busy", wait_seconds: float | None = None) -> Transient:
    return Transient(ValueError(words), wait_seconds)


def test_it_is_tried_until_it_is_answered_after_pauses_that_vary_about_those_given() -> None:
    server, pauses = Server(busy(), busy()), list[float]()

    assert insist(server.ask, (1.0, 10.0, 100.0), sleep=pauses.append) == "answer"

    first, second = pauses
    assert 0.5 <= first <= 1.5
    assert 5.0 <= second <= 15.0


def test_a_pause_that_the_server_asks_for_is_kept() -> None:
    server, pauses = Server(busy(wait_seconds=7.0), busy(wait_seconds=0.0)), list[float]()

    insist(server.ask, (1.0, 1.0), sleep=pauses.append)

    assert pauses == [7.0, 0.0]


def test_the_last_failure_is_raised_with_what_caused_it() -> None:
    server, pauses = Server(busy("first"), busy("second"), busy("third")), list[float]()

    with pytest.raises(ValueError, match="third") as caught:
        insist(server.ask, (1.0, 1.0), sleep=pauses.append)

    assert isinstance(caught.value.__cause__, OSError)
    assert (server.tries, len(pauses)) == (3, 2)


def test_another_failure_is_raised_at_once() -> None:
    server = Server(KeyError("no"))

    with pytest.raises(KeyError):
        insist(server.ask, (1.0, 1.0), sleep=pytest.fail)

    assert server.tries == 1


def test_work_in_an_event_loop_is_tried_likewise() -> None:
    server = Server(busy(wait_seconds=0.0))
    assert asyncio.run(insist_within_loop(server.ask_later, (1.0,))) == "answer"

    server = Server(busy(wait_seconds=0.0), busy("last"))
    with pytest.raises(ValueError, match="last"):
        asyncio.run(insist_within_loop(server.ask_later, (1.0,)))
    assert server.tries == 2
