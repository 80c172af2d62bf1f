"""`output_dir=`: the directory of a run's outputs, as it is written and checked."""

from __future__ import annotations

import string
from typing import Any

from kinetic_flows.core import option_values as check

_FIELDS_HINT = "put what is to be replaced in braces, such as function or arguments_hash"


def check_output_dir(name: str, value: Any) -> str:
    """Check the option `output_dir`.

    Args:
        name: What the option is called.
        value: A name, a path or a `gs://` URI, with fields in braces or not.

    Raises:
        UsageError: It cannot be.
    """
    given = check.text(name, value, "give a name, a path or a gs:// URI").strip().rstrip("/")
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(given) if field is not None]
    except ValueError:
        check.refuse(name, value, _FIELDS_HINT)
    for field in fields:
        if not field.isidentifier():
            check.refuse(name, value, _FIELDS_HINT)
    if "://" in given and not given.startswith("gs://"):
        check.refuse(name, value, "give a name, a path or a gs:// URI")
    if not given or ".." in given.split("/"):
        check.refuse(name, value, "give a name, a path or a gs:// URI, without ..")
    return given
