"""Writes the tables of docs/coming-from-keras-kinetic.md from the words that errors answer with.

Run this as a program after a change of `kinetic_flows.core.keras_kinetic`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from kinetic_flows.core import keras_kinetic as words

PAGE = Path(__file__).parents[1] / "docs" / "coming-from-keras-kinetic.md"

TABLES = {
    "options": [*words.OPTIONS.values(), *words.MAP_OPTIONS.values()],
    "names": [words.behind("kinetic.", word) for word in words.MODULE.values()],
    "functions": [*words.FUNCTION.values()],
    "handles": [*words.RUN.values(), *words.GROUP.values(), *words.ARGUMENTS.values()],
    "data": [*words.DATA.values()],
    "commands": [*words.COMMANDS.values()],
    "variables": [words.behind("KINETIC_", word) for word in words.VARIABLES.values()],
}


def table(rows: Iterable[words.Word]) -> Iterator[str]:
    """Yield a row for each word."""
    yield "| There | Here |"
    yield "| --- | --- |"
    for written, instead in rows:
        yield f"| `{written.replace('|', ', ')}` | {instead} |"


def rewritten(page: str) -> str:
    """Return the page with the tables as the errors have them."""
    for name, rows in TABLES.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        lines = "\n".join(table(rows)).replace("\\", "\\\\")
        page, count = re.subn(f"{begin}.*?{end}", f"{begin}\n{lines}\n{end}", page, flags=re.DOTALL)
        assert count == 1, f"the page has no place for the table of {name}"
    return page


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text()))
