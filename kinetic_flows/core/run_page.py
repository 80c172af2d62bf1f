"""The sections of a run's page, in the order in which a person asks.

Several write to a page: the client that launches the run, the run's own runner when it ends
(`runner_image/runner/run_page.py` has the same names, and inserts in the same way), and whoever
settles its state. Each puts in its sections and leaves those of others as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

WHAT_RAN = "What ran"
HOW_IT_WENT = "How it went"
WHAT_IT_USED = "What it used"
WHY_IT_ENDED = "Why it ended"
DETAILS = "Details"

SECTIONS = (WHAT_RAN, HOW_IT_WENT, WHAT_IT_USED, WHY_IT_ENDED, DETAILS)
"""Their headings, of the second level. What stands below them has headings of lower levels."""

_HEADING = re.compile(r"^## (.+)\n*", re.MULTILINE)


def with_sections(page: str, sections: Mapping[str, str]) -> str:
    """Return a page with sections put in, each at its place, or in place of what it had there.

    Args:
        page: The page; sections that are not known here, of a later version, come last.
        sections: Markdown by heading, one of `SECTIONS`; an empty text takes its section out.
    """
    parts = _HEADING.split(page)
    before = parts[0].strip()
    found = dict(zip(parts[1::2], parts[2::2], strict=True)) | dict(sections)
    order = [*SECTIONS, *(heading for heading in found if heading not in SECTIONS)]
    filled = [(heading, found.get(heading, "").strip()) for heading in order]
    shown = [f"## {heading}\n\n{text}" for heading, text in filled if text]
    return "\n\n".join([*([before] if before else []), *shown])
