"""What is used of Python's standard library without being promised by it.

Everything of the kind stands here, so that one test can tell when a release takes it away
(tests/unit/test_internals.py); docs/upstream.md says what each is for and what would replace it.
"""

from __future__ import annotations

import logging
from typing import Any


def take_handlers() -> tuple[list[Any], dict[str, Any]]:
    """Return the references that `logging` keeps of every handler, after which it has none.

    `logging.config.dictConfig` closes all handlers that it finds there, whose ever they are: one
    that writes a file of its own (mode `w`) then drops what it is given, without a word.
    """
    references, named = logging._handlerList, logging._handlers  # type: ignore[attr-defined]
    taken = list(references), dict(named)
    references.clear()
    named.clear()
    return taken


def give_handlers_back(taken: tuple[list[Any], dict[str, Any]]) -> None:
    """Have `logging` know handlers again, besides those that came meanwhile."""
    references, named = logging._handlerList, logging._handlers  # type: ignore[attr-defined]
    references[:0] = taken[0]
    for name, handler in taken[1].items():
        named.setdefault(name, handler)
