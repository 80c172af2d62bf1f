"""Keys of runs that one run has for another."""

from __future__ import annotations

import hmac


def masked_key(run_key: str, by: str) -> str:
    """Hide a run's key behind another run's, or, the same way, bring it back.

    Who reads the masked key alone learns nothing; who has the other key has this one.

    Args:
        run_key: The key, or the masked key, in hexadecimal.
        by: The other run's own key, which masks no further one.

    Raises:
        ValueError: It is no key.
    """
    mask = hmac.digest(by.encode(), b"the key of the run whose result this is", "sha256")
    key = bytes.fromhex(run_key)
    return bytes(each ^ over for each, over in zip(key, mask, strict=True)).hex()
