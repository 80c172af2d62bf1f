"""The values that requirement markers have in images."""

from __future__ import annotations


def image_markers(python: str) -> dict[str, str]:
    """Return the values of markers in an image (PEP 508), for one Python minor version."""
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "os_name": "posix",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
    }
