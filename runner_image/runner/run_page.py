"""What the runner puts on the run's page in Prefect once the run has ended.

The client has published the page, a Markdown artifact of the flow run; its sections and the way
they are put in are those of `kinetic_flows/core/run_page.py`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from .course import Course
from .endings import State
from .prefect_api import ApiError, PrefectApi

KEY = "run"
"""The artifact's key, as in `kinetic_flows/clients/prefect/flow_names.py`."""

WHAT_RAN = "What ran"
HOW_IT_WENT = "How it went"
WHAT_IT_USED = "What it used"
WHY_IT_ENDED = "Why it ended"
DETAILS = "Details"
SECTIONS = (WHAT_RAN, HOW_IT_WENT, WHAT_IT_USED, WHY_IT_ENDED, DETAILS)

SHORT_SECONDS = 10.0
"""A run that returned after less than this asks nothing of Prefect for its page."""

REQUEST_SECONDS = 3.0
TRIES = 3
"""How often sections are put in that another writer has overwritten meanwhile."""

_HEADING = r"(?m)^## (.+)\n*"


class RunPage:
    """What is to be said on a run's page when it has ended.

    Args:
        api: The Prefect API; None where the run has none, and somebody else tells of its end.
    """

    def __init__(self, api: PrefectApi | None) -> None:
        self._api = api
        self._began = time.monotonic()
        self._sections: dict[str, str] = {}
        self._asked: dict[str, Callable[[], str]] = {}
        self.course = Course()

    def put(self, section: str, markdown: str) -> None:
        """Say what a section is to say, in place of what it was to say before.

        Args:
            section: Its heading, one of `SECTIONS`.
            markdown: What stands below, without headings of its level.
        """
        self._sections[section] = markdown

    def ask(self, section: str, markdown: Callable[[], str]) -> None:
        """Have somebody asked, when the run has ended, for what comes last in a section.

        Args:
            section: Its heading, one of `SECTIONS`; who was to be asked before is asked no more.
            markdown: Returns it; empty for nothing.
        """
        self._asked[section] = markdown

    def publish(self, state: State, restarts: int) -> None:
        """Put what was said, and how the run went, on the page; its final state was told before.

        Nothing depends on it: where Prefect does not take it, the page stays as it was.

        Args:
            state: The final state. A short run that returned makes no requests.
            restarts: How often the run was started before.
        """
        is_short = time.monotonic() - self._began < SHORT_SECONDS
        if self._api is None or (is_short and state.type == "COMPLETED"):
            return
        self.put(HOW_IT_WENT, self.course.markdown(state, restarts))
        for section, ask in self._asked.items():
            self.put(section, f"{self._sections.get(section, '')}\n\n{ask()}".strip())
        try:
            insert(self._api, self._sections)
        except ApiError:
            return


def insert(api: PrefectApi, sections: Mapping[str, str]) -> None:
    """Put sections on the page of the API's flow run; done again, this changes nothing.

    Args:
        api: The Prefect API.
        sections: Markdown by heading.

    Raises:
        ApiError: It does not answer, or refuses.
    """
    for _ in range(TRIES):
        found = _read(api)
        if found is None:
            api.publish_markdown(KEY, with_sections("", sections), REQUEST_SECONDS)
            return
        page = with_sections(found["data"], sections)
        if page == found["data"]:
            return
        api.replace_markdown(found["id"], page, REQUEST_SECONDS)


def _read(api: PrefectApi) -> Mapping[str, Any] | None:
    """Return the page's artifact; None where the client has not published it, or could not."""
    found = api.read_artifacts(KEY, REQUEST_SECONDS)
    return next((each for each in found if isinstance(each.get("data"), str)), None)


def with_sections(page: str, sections: Mapping[str, str]) -> str:
    """Return a page with sections put in, each at its place, or in place of what it had there.

    Args:
        page: The page.
        sections: Markdown by heading; an empty text takes its section out.
    """
    parts = re.split(_HEADING, page)
    before = parts[0].strip()
    found = dict(zip(parts[1::2], parts[2::2], strict=True)) | dict(sections)
    order = [*SECTIONS, *(heading for heading in found if heading not in SECTIONS)]
    filled = [(heading, found.get(heading, "").strip()) for heading in order]
    shown = [f"## {heading}\n\n{text}" for heading, text in filled if text]
    return "\n\n".join([*([before] if before else []), *shown])
