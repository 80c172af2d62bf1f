"""Code and data of a call, brought to the store while its images are made: once for all of them."""

from __future__ import annotations

from typing import Any

from prefect.futures import PrefectFuture

from kinetic_flows.core.job import CodeSpec
from kinetic_flows.flows.data_tasks import start_upload
from kinetic_flows.flows.prepare_tasks import upload_code_task
from kinetic_flows.plans.draft import Draft
from kinetic_flows.runs.session import Session


class Uploads:
    """Code and data of a call.

    Args:
        draft: The call.
        session: Where it runs and reports.
    """

    def __init__(self, draft: Draft, session: Session) -> None:
        self._draft = draft
        self._session = session
        self._code: PrefectFuture[CodeSpec] | None = None
        self._data: tuple[PrefectFuture[None], ...] = ()
        self._is_shared = False

    def begin_for_several(self) -> tuple[PrefectFuture[Any], ...]:
        """Begin to upload before any of several images is made: what stops one stops none of it."""
        self._is_shared = True
        return self.begin()

    def again(self) -> Uploads:
        """Return what goes on where an image could not be made, which has stopped the upload."""
        return self if self._is_shared else Uploads(self._draft, self._session)

    def begin(self) -> tuple[PrefectFuture[Any], ...]:
        """Begin to upload, unless that goes on already; return what is to be waited for."""
        if self._code is None:
            progress, store = self._session.progress, self._session.platform.store
            self._code = upload_code_task.submit(self._draft, store, progress)
            self._data = start_upload(self._draft, progress)
        return (*self._data, self._code)

    def code(self) -> CodeSpec:
        """Return the code as it was shipped, once that is done."""
        *_, code = self.begin()
        shipped: CodeSpec = code.result()
        return shipped
