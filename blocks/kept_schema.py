"""Schemas of blocks, computed once."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from pydantic import BaseModel

_schemas: dict[tuple[object, ...], dict[str, Any]] = {}
"""What was computed, by class and arguments."""


class KeptSchema(BaseModel):
    """A block whose schema is computed once.

    Prefect asks for it for each field whenever a block is saved, and computes it anew each time:
    for a block of many fields, in which others are nested, that takes seconds.
    """

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the JSON schema, as pydantic does."""
        key = (cls, args, *sorted(kwargs.items()))
        if key not in _schemas:
            _schemas[key] = super().model_json_schema(*args, **kwargs)
        return deepcopy(_schemas[key])
