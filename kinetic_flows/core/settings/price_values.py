"""Prices that people give: read from JSON, from a file, or as a profile has them, and checked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from kinetic_flows.core.errors import AcceleratorError, ConfigurationError, suggest
from kinetic_flows.core.lazy import LazyModule

if TYPE_CHECKING:
    from kinetic_flows.core.accelerators import parsing, prices
else:
    # Hardly any call gives prices.
    parsing = LazyModule("kinetic_flows.core.accelerators.parsing")
    prices = LazyModule("kinetic_flows.core.accelerators.prices")

EXAMPLE = '{"tpu-v6e": 2.1, "h100:spot": 4.5}'


def check_prices(value: object, label: str) -> dict[str, float]:
    """Check prices by the hour, and return them by what the families are called.

    Args:
        value: A mapping, the same as a JSON object, or the path of a file with one. It has US
            dollars for an hour of a chip by an accelerator's family, with `:spot` or `:flex` where
            it is had so; of `cpu` for an hour of a node, of `local` for an hour of this machine.
        label: What to call it in an error.

    Raises:
        ConfigurationError: It is none, names no family, or has what is no price.
    """
    checked: dict[str, float] = {}
    for name, price in _read(value, label).items():
        known = prices.price_name(str(name))
        if known is None:
            _refuse(
                name,
                f"{label} has a price for {name!r}, which is no family of accelerators",
                _family_hint(str(name)),
            )
        if isinstance(price, bool) or not isinstance(price, int | float) or not _is_price(price):
            _refuse(
                price,
                f"{label} says that an hour of {name} costs {price!r}",
                "give US dollars as a number, without a sign or currency",
            )
        checked[known] = float(price)
    return checked


def _family_hint(name: str) -> str:
    """Say which family was probably meant: that of an accelerator, where a size was given."""
    try:
        family = prices.priced_as(parsing.parse_accelerator(name))
    except AcceleratorError:
        return suggest(name.lower(), prices.price_names())
    return f"prices are those of each chip: give one for {family!r}"


def _is_price(value: float) -> bool:
    return math.isfinite(value) and value >= 0


def _read(value: object, label: str) -> Mapping[object, object]:
    text, what = value, label
    if isinstance(text, str) and not text.lstrip().startswith("{"):
        what = f"{label} ({text})"
        text = _file(text, label)
    if isinstance(text, str):
        try:
            value = json.loads(text)
        except ValueError as error:
            _refuse(text, f"{what} is not JSON: {error}", f"write it as {EXAMPLE}")
    if not isinstance(value, Mapping):
        _refuse(value, f"{what} is {value!r:.100}", f"give prices by family, such as {EXAMPLE}")
    return value


def _file(path: str, label: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        _refuse(
            path,
            f"{label} is {path!r}, which cannot be read: {why}",
            f"give the path of a JSON file, or prices such as {EXAMPLE}",
        )


def _refuse(value: object, message: str, hint: str) -> NoReturn:
    raise ConfigurationError(message, value=value, hint=hint)
