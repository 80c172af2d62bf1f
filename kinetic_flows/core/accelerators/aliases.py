"""Names that a project gives to accelerators, in `[tool.kinetic.accelerators]`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches

from kinetic_flows.core.accelerators.model import split_suffix
from kinetic_flows.core.accelerators.parsing import check_accelerator
from kinetic_flows.core.errors import AcceleratorError

_ALIAS = re.compile(r"(?!(?:tpu|gpu)(?:$|[-:]))[a-z][a-z0-9_-]{0,62}")
"""Real names with `tpu` or `gpu` in front are told apart without knowing any project."""


def may_be_alias(text: str) -> bool:
    """Whether a project may call an accelerator so, with or without a suffix behind it."""
    return _ALIAS.fullmatch(_body(text)) is not None


def check_alias(alias: str, meant: str) -> None:
    """Check an alias as it is written in a project's file.

    Args:
        alias: The name that the project gives.
        meant: The accelerator that it stands for.

    Raises:
        AcceleratorError: It cannot be a name, is an accelerator's own, or stands for none.
    """
    if alias != alias.lower() or not _ALIAS.fullmatch(alias):
        raise AcceleratorError(
            f"{alias!r} cannot be a name for an accelerator",
            value=alias,
            hint="give lower-case letters, digits, dashes and underscores, and begin with a "
            "letter and not with tpu- or gpu-",
        )
    if _is_real(alias):
        raise AcceleratorError(
            f"{alias!r} is an accelerator itself", value=alias, hint="give it another name"
        )
    check_accelerator(meant)


def meant_by(text: str, aliases: Mapping[str, str]) -> str:
    """Return the accelerator that a text names, which may be a project's own name for one.

    Args:
        text: The name; `:spot` and `:flex` may stand behind an alias, too.
        aliases: The project's names, with what each stands for.

    Raises:
        AcceleratorError: It is neither an accelerator nor an alias.
    """
    found = aliases.get(_body(text))
    if found is not None:
        suffix = split_suffix(text)[1]
        return f"{split_suffix(found)[0]}{suffix}" if suffix else found
    try:
        check_accelerator(text)
    except AcceleratorError as error:
        if not aliases:
            raise
        near = get_close_matches(_body(text), aliases, n=1, cutoff=0.6)
        named = ", ".join(sorted(aliases))
        raise AcceleratorError(
            error.message,
            value=error.value,
            hint=f"did you mean {near[0]!r}? This project calls accelerators {named} "
            "(`kinetic accelerators` lists every other name)"
            if near
            else f"{error.hint}; this project calls accelerators {named}",
        ) from None
    return text


def _body(text: str) -> str:
    return split_suffix(text)[0]


def _is_real(name: str) -> bool:
    try:
        check_accelerator(name)
    except AcceleratorError:
        return False
    return True
