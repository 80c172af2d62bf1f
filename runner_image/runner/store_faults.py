"""What a store's errors come to: refused, or away for now."""

from __future__ import annotations

import errno

from .contract import EXIT_OBJECT_UNAVAILABLE, EXIT_RESULT_NOT_WRITTEN, Fault, StoreAway

_REFUSALS = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG}
    | {errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EINVAL}
)

_AWAY = frozenset(
    # Of `requests`, `urllib3`, `google.auth` and `google.api_core`: no answer, or none in time.
    {"ConnectionError", "Timeout", "ChunkedEncodingError", "TransportError", "RetryError"}
    | {"ProtocolError", "ServerError", "TooManyRequests"}
)


def unavailable(name: str, error: Exception) -> Fault:
    """Return what to raise where an object cannot be fetched."""
    return _fault(error, EXIT_OBJECT_UNAVAILABLE, f"the object {name} cannot be fetched")


def unwritten(name: str, error: Exception) -> Fault:
    """Return what to raise where an object cannot be written."""
    return _fault(error, EXIT_RESULT_NOT_WRITTEN, f"the object {name} cannot be written")


def _fault(error: Exception, exit_code: int, what: str) -> Fault:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    kind = StoreAway if is_away(error) else Fault
    return kind(exit_code, f"{what}: {reason}")


def is_away(error: BaseException) -> bool:
    """Whether an error says that the store may answer later, and not that it refuses."""
    if isinstance(error, OSError) and type(error).__module__ == "builtins":
        return error.errno not in _REFUSALS
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & _AWAY:
        return True
    code = getattr(error, "code", None)
    return code in (408, 429) or (isinstance(code, int) and code >= 500)
