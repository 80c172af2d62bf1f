"""Amounts of US dollars, as people read them."""

from __future__ import annotations

ESTIMATE = "an estimate"
"""What every amount is called that follows from prices and times."""

_CENT, _LEAST = 0.01, 0.0001


def dollars(amount: float) -> str:
    """Return an amount in words: `$1,234.50`, and of less than a cent `$0.0012`."""
    if 0 < amount < _CENT:
        return f"${max(amount, _LEAST):.4f}"
    return f"${amount:,.2f}"


def no_price(name: str) -> str:
    """Say that no price of an accelerator is known, and what to do.

    Args:
        name: The accelerator.
    """
    return f"not known: there is no price of {name}; KINETIC_PRICES can say one"
