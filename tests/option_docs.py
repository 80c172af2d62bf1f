"""Repeats what core/option_list.py says of each option where people, and their editors, read it.

Editors show the docstring of what is called, and so do `help()` and the reference. Run this as a
program after a change of the list: it writes those docstrings anew.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "kinetic_flows"
REPEATED = (PACKAGE / "api" / "decorator.py", PACKAGE / "api" / "remote_function.py")
PARAMETERS = r"^    accelerator: .* = \.\.\.,\n(?:    \w+: .* = \.\.\.,\n)*"
LISTED = r"^( {8,})accelerator: .*\n(?:\1.*\n)+"


def documented() -> Mapping[str, str]:
    """Return what the list says of each option, as one line."""
    return {
        ast.unparse(item.target): " ".join(str(ast.literal_eval(text.value)).split())
        for item, text in pairwise(_listed())
        if isinstance(item, ast.AnnAssign) and isinstance(text, ast.Expr)
    }


def annotated() -> Mapping[str, str]:
    """Return the type that the list gives each option."""
    return {
        ast.unparse(item.target): ast.unparse(item.annotation).replace("'", '"')
        for item in _listed()
        if isinstance(item, ast.AnnAssign)
    }


def _listed() -> list[ast.stmt]:
    module = ast.parse((PACKAGE / "core" / "option_list.py").read_text())
    (listed,) = (
        each for each in module.body if isinstance(each, ast.ClassDef) and each.name == "Options"
    )
    return listed.body


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
    parameters = (f"    {name}: {kind} = ...,\n" for name, kind in annotated().items())
    return re.sub(PARAMETERS, "".join(parameters), text, count=1, flags=re.MULTILINE)


if __name__ == "__main__":
    for module in REPEATED:
        module.write_text(rewritten(module))
