"""Whether an exception says that the memory of chips has run out, or that of the host.

It is told by classes' names and by messages: no framework is imported for it. XLA's status is
`RESOURCE_EXHAUSTED` (https://openxla.org/xla/errors/error_1000), PyTorch raises
`torch.OutOfMemoryError` (https://docs.pytorch.org/docs/stable/generated/torch.cuda.OutOfMemoryError.html),
which was a RuntimeError before its version 1.13, TensorFlow `ResourceExhaustedError`.
"""

from __future__ import annotations

from collections.abc import Iterator

MESSAGE_CHARACTERS = 300

_CLASSES = frozenset({"OutOfMemoryError", "ResourceExhaustedError"})
_WORDS = (
    *("CUDA out of memory", "HIP out of memory", "CUDA error: out of memory"),
    "CUDA_ERROR_OUT_OF_MEMORY",
)
_XLA_STATUS = "RESOURCE_EXHAUSTED"
_ABOUT_MEMORY = ("memory", "allocat", "hbm")
_SAME_ON_EVERY_CHIP = ("memory space vmem", "memory space smem", "scoped vmem")
"""What XLA says of a kernel that does not fit a core, as it would not on more chips."""


def out_of_memory(error: BaseException) -> str:
    """Return what an exception, or one that led to it, says of memory that has run out.

    Args:
        error: What the function raised.

    Returns:
        The class's name and the beginning of the message; empty where it is about something else.
    """
    for each in _chain(error):
        if _says_so(each):
            return f"{type(each).__name__}: {_first_line(each)}"
    return ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, what is in its group, and what led to each, once."""
    waiting, seen = [error], set()
    while waiting:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        before = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
        members = getattr(each, "exceptions", ())
        inner = members if isinstance(members, tuple) else ()
        waiting += [one for one in (*inner, before) if isinstance(one, BaseException)]


def _says_so(error: BaseException) -> bool:
    if not _CLASSES.isdisjoint(kind.__name__ for kind in type(error).__mro__):
        return True
    # Of XLA, and of all that wrap its errors, the class is one of these.
    if not isinstance(error, RuntimeError):
        return False
    text = _text(error)
    return any(words in text for words in _WORDS) or _is_exhausted(text)


def _is_exhausted(text: str) -> bool:
    """Whether XLA's status is about memory: also what is sent can be too large for it."""
    if _XLA_STATUS not in text:
        return False
    lower = text.lower()
    about_memory = any(word in lower for word in _ABOUT_MEMORY)
    return about_memory and not any(words in lower for words in _SAME_ON_EVERY_CHIP)


def _first_line(error: BaseException) -> str:
    lines = _text(error).strip().splitlines()
    return lines[0][:MESSAGE_CHARACTERS] if lines else ""


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a text that cannot be had says nothing
        return ""
