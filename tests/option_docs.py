"""Repeats what core/options.py says of each option where people read it.

Editors show the docstring of what is called, and so do `help()` and the reference. Run this as a
program after a change of the list: it writes those docstrings anew.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "kinetic_flows"
REPEATED = (PACKAGE / "api" / "decorator.py", PACKAGE / "api" / "remote_function.py")
LISTED = r"^( +)accelerator: .*\n(?:\1.*\n)+"


def documented() -> Mapping[str, str]:
    """Return what the list says of each option, as one line."""
    module = ast.parse((PACKAGE / "core" / "options.py").read_text())
    (listed,) = (
        each for each in module.body if isinstance(each, ast.ClassDef) and each.name == "Options"
    )
    return {
        ast.unparse(item.target): " ".join(str(ast.literal_eval(text.value)).split())
        for item, text in zip(listed.body, listed.body[1:], strict=False)
        if isinstance(item, ast.AnnAssign) and isinstance(text, ast.Expr)
    }


def rewritten(path: Path) -> str:
    """Return a module with the options in its docstring as the list has them."""

    def section(found: re.Match[str]) -> str:
        return "".join(
            textwrap.fill(
                f"{name}: {text}",
                width=96,
                initial_indent=found[1],
                subsequent_indent=found[1] + 4 * " ",
                break_on_hyphens=False,
            )
            + "\n"
            for name, text in documented().items()
        )

    text, count = re.subn(LISTED, section, path.read_text(), count=1, flags=re.MULTILINE)
    assert count == 1, f"{path} has no list of options"
    return text


if __name__ == "__main__":
    for module in REPEATED:
        module.write_text(rewritten(module))
