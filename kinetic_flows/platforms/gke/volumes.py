"""Volumes of a run's pods: Cloud Storage that is mounted, claims, scratch disks, copied data."""

from __future__ import annotations

from dataclasses import replace

from kinetic_flows.core.job_parts import DataSpec, VolumeSpec

DATA_ROOT = "/kinetic/data"
"""Where data is mounted that is an argument, below which each has its number in the job."""


def mounted_places(
    data: tuple[DataSpec, ...], volumes: tuple[VolumeSpec, ...]
) -> tuple[DataSpec, ...]:
    """Return a job's data with the paths at which Cloud Storage is mounted in its pods.

    Args:
        data: The data, as it was resolved.
        volumes: The volumes of the job, which name some of it.
    """
    paths = {volume.data: volume.path for volume in volumes if volume.data is not None}
    return tuple(
        replace(spec, path=paths.get(number, f"{DATA_ROOT}/{number}"))
        if spec.mode == "mount"
        else spec
        for number, spec in enumerate(data)
    )
