"""How a group is told to cancel, to launch no more, or to go on without whoever began it."""

from __future__ import annotations

import threading


class Control:
    """How a group is controlled while it runs; safe to use from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Event()
        self.is_cancelling = False
        self.is_detached = False
        self.launches_no_more = False

    def cancel(self) -> None:
        """Ask that no more runs are launched, and that those launched are cancelled and end."""
        # In this order: whoever is detached and launches no more is done, at once.
        self.is_detached = False
        self.is_cancelling = self.launches_no_more = True
        self.notify()

    def launch_no_more(self) -> None:
        """Ask that nothing more is launched."""
        self.launches_no_more = True
        self.notify()

    def detach(self) -> None:
        """Ask not to wait for the end of runs that are launched."""
        self.is_detached = True
        self.notify()

    def notify(self) -> None:
        """Cut the next pause short."""
        self._changed.set()

    def pause(self, seconds: float) -> None:
        """Wait, unless something changes."""
        self._changed.wait(seconds)
        self._changed.clear()
