"""Run a function in an image of your own: KINETIC_CONTAINER_IMAGE=IMAGE python train.py"""

from __future__ import annotations

import os

import kinetic


@kinetic.run(accelerator="cpu")
def describe(count: int) -> str:
    import humanize

    return f"{os.environ['GREETING']}: {humanize.intword(count)}"


if __name__ == "__main__":
    print(describe(1_000_000))
