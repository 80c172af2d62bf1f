"""A `KINETIC_HOME` that cannot be written to, told in one sentence wherever it is noticed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kinetic_flows.core.errors import ConfigurationError
from kinetic_flows.core.lazy import LazyModule

if TYPE_CHECKING:
    from kinetic_flows.core.settings import settings
else:
    settings = LazyModule("kinetic_flows.core.settings.settings")

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What is said of a file that cannot grow; which file that is, is not."""

_UNUSABLE = _FULL | {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENOENT,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EIO,
    errno.ESTALE,
}


@contextmanager
def usable_home() -> Iterator[None]:
    """Turn what the system says of files in `KINETIC_HOME` into an error of ours.

    Raises:
        ConfigurationError: It cannot be written to, or has no space left.
    """
    try:
        yield
    except OSError as error:
        home = settings.load_settings().home
        if error.errno in _FULL and error.filename is None:
            raise _full(error, home) from error
        if error.errno in _UNUSABLE and _concerns(error.filename, home):
            raise _unusable(error, home) from error
        raise


def _full(error: OSError, home: Path) -> ConfigurationError:
    return ConfigurationError(
        f"a file could not be written: {error.strerror}",
        value=str(home),
        hint=f"free some space where KINETIC_HOME ({home}) and the temporary files are, or set "
        "KINETIC_HOME to another directory; `kinetic runs cleanup` removes what old runs have left",
    )


def _unusable(error: OSError, home: Path) -> ConfigurationError:
    return ConfigurationError(
        f"KINETIC_HOME ({home}) cannot be used: {error.strerror}: {os.fsdecode(error.filename)}",
        value=str(home),
        hint="set KINETIC_HOME to a directory of yours that can be written to, or mend this one",
    )


def _concerns(name: object, home: Path) -> bool:
    """Whether a file is in the home, or the home in it."""
    if not isinstance(name, str | bytes | os.PathLike):
        return False
    path = Path(os.fsdecode(name))
    return path.is_relative_to(home) or home.is_relative_to(path)
