"""Keeping a host's black box beside what is done at its run's end; nothing for one that returned.

What makes one is imported only then.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from .contract import black_box_object
from .endings import Ending
from .output import Output
from .run_page import WHY_IT_ENDED, RunPage

if TYPE_CHECKING:
    from .stores import BucketStore, DirectoryStore

UNREMARKABLE = ("returned", "cancelled")
"""How runs end of which nothing is kept."""


class BoxKeeper:
    """What keeps the black box of one host.

    Args:
        store: Where it goes.
        job: The job.
        starts: Where the run's starts leave marks; see `contract.starts_prefix`.
        host: Which of its hosts this is.
        output: What the run printed.
    """

    def __init__(
        self,
        store: DirectoryStore | BucketStore,
        job: Mapping[str, Any],
        starts: str,
        host: int,
        output: Output,
    ) -> None:
        self._store = store
        self._run_id: str = job["run_id"]
        self._name = black_box_object(starts, host)
        self._host = host
        self._output = output

    def beside(self, ending: Ending, start: int, page: RunPage) -> AbstractContextManager[None]:
        """Keep it beside what is done in this context, which ends when it is stored.

        Args:
            ending: How the run ended on this host.
            start: How often it was started before.
            page: What is to be said of its end on the run's page.
        """
        if ending.status in UNREMARKABLE:
            return nullcontext()
        from .black_box import document_of, kept, shown

        document = document_of(
            ending,
            self._output,
            run_id=self._run_id,
            host=self._host,
            start=start,
            place=os.uname().nodename,
        )
        if ending.status is not None:
            page.put(WHY_IT_ENDED, shown(document))
        return kept(self._store, self._name, document)
