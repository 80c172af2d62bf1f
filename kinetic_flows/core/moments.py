"""Moments and durations: in a few characters, as lists show them, and in words."""

from __future__ import annotations

from datetime import datetime

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def took(seconds: float | None) -> str:
    """Return a duration: `0.6s`, `12s`, `3m05s`, `2h04m`, `3d07h`; empty for None."""
    if seconds is None:
        return ""
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f}s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole}s"
    if whole < _HOUR:
        return f"{whole // _MINUTE}m{whole % _MINUTE:02}s"
    if whole < _DAY:
        return f"{whole // _HOUR}h{whole % _HOUR // _MINUTE:02}m"
    return f"{whole // _DAY}d{whole % _DAY // _HOUR:02}h"


def elapsed(seconds: float, *, tenths: bool = True) -> str:
    """Return a duration that may still grow: `0.6 s`, `12 s`, `3 min 0 s`, `1 h 5 min`.

    Args:
        seconds: The duration.
        tenths: Whether the tenths of a few seconds are said.
    """
    if tenths and seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"


def duration(seconds: float) -> str:
    """Return a duration as people say it: as `elapsed`, but `3 min`, `1 h`."""
    return elapsed(seconds).removesuffix(" 0 s").removesuffix(" 0 min")


def ago(moment: datetime, now: datetime) -> str:
    """Return how long ago a moment was, in its largest unit: `5s ago`, `3d ago`; or `in 2h`."""
    seconds = (now - moment).total_seconds()
    size = abs(seconds)
    units = ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m"))
    text = next((f"{int(size // unit)}{name}" for unit, name in units if size >= unit), "")
    text = text or f"{int(size)}s"
    if seconds < 0:
        return f"in {text}"
    return f"{text} ago"


def local(moment: datetime) -> str:
    """Return a moment by this machine's clock, to the second."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
