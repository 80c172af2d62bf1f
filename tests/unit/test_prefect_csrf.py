"""Threads that share a client of Prefect's, and the one CSRF token that its server knows."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from prefect.exceptions import PrefectHTTPStatusError

from kinetic_flows.clients.prefect.errors import CSRF_RETRY_SECONDS, translated
from kinetic_flows.core.errors import PrefectServerError


class Api:
    """Refuses so many requests as Prefect's server does."""

    url = "http://127.0.0.1:1/api"

    def __init__(self, refusals: int, text: str) -> None:
        self.refusals = refusals
        self.text = text
        self.asked = 0

    def _answer(self) -> str:
        self.asked += 1
        if self.asked <= self.refusals:
            request = httpx.Request("POST", self.url)
            response = httpx.Response(403, text=self.text, request=request)
            raise PrefectHTTPStatusError("refused", request=request, response=response)
        return "answered"

    ask: Any = translated(_answer)


TAKEN = "Invalid CSRF token or client identifier."


def test_a_token_that_another_thread_has_replaced_is_asked_for_again() -> None:
    api = Api(2, TAKEN)
    assert api.ask() == "answered"
    assert api.asked == 3


@pytest.mark.parametrize(
    ("text", "times"), [(TAKEN, 1 + len(CSRF_RETRY_SECONDS)), ("you may not", 1)]
)
def test_other_refusals_and_too_many_are_errors(text: str, times: int) -> None:
    api = Api(100, text)
    with pytest.raises(PrefectServerError, match=r"refuses these credentials.*403"):
        api.ask()
    assert api.asked == times
