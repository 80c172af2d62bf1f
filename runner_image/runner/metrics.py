"""What a run's host has used so far, for who looks at it while it runs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

from .door import Door
from .measured import told
from .sampler import METRICS_FILE


def main(door: Door, _arguments: Sequence[str]) -> int:
    """Print what is known as one JSON object; without readings where there are none yet."""
    try:
        with open(os.path.join(door.scratch, METRICS_FILE), encoding="utf-8") as file:
            document = json.load(file)
    except FileNotFoundError:
        document = {}
    json.dump(told(document) if document else document, sys.stdout, separators=(",", ":"))
    return 0
