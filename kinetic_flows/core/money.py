"""Amounts of US dollars, as people read them."""

from __future__ import annotations

_SMALL = 0.01


def dollars(amount: float) -> str:
    """Return an amount in words: `$1,234.50`, and `less than $0.01` for hardly any."""
    if 0 < amount < _SMALL:
        return f"less than ${_SMALL:.2f}"
    return f"${amount:,.2f}"
