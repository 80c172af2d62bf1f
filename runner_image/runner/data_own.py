"""Copies of data in directories that are a run's own: volumes of its pod."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from typing import Any

from .data_cache import DRAFT, FILES, remove_tree


class OwnDirectory:
    """A directory that holds one copy, which nobody else uses.

    Args:
        root: The directory, which is there and empty at first.
        scratch: A directory that lasts as long as this process.
    """

    def __init__(self, root: str, scratch: str) -> None:
        self.root = root
        name = hashlib.sha256(os.fsencode(root)).hexdigest()[:32]
        # In the directory itself the function would see it.
        self._whole = os.path.join(scratch, f"whole-{name}")

    def bring(
        self, spec: Mapping[str, Any], make: Callable[[str, str], None], _wait: Callable[[], None]
    ) -> str:
        """Return the path of a copy, which is made unless it is there.

        Args:
            spec: The job's `DataSpec`.
            make: Makes a copy, given a directory for what it needs meanwhile, and the path that
                the copy is to have there.
        """
        if not os.path.exists(self._whole):
            draft = os.path.join(self.root, f".kinetic-{DRAFT}")
            made = os.path.join(draft, FILES, spec["name"])
            os.makedirs(draft, exist_ok=True)
            make(draft, made)
            parts = [made]
            if os.path.isdir(made):
                parts = [os.path.join(made, name) for name in os.listdir(made)]
            for part in parts:
                place = os.path.join(self.root, os.path.basename(part))
                # As an interrupted try may have left it: no directory takes another one's place.
                remove_tree(place)
                os.rename(part, place)
            remove_tree(draft)
            open(self._whole, "w").close()
        single = os.path.join(self.root, spec["name"])
        return single if spec["is_file"] else self.root
