"""The place of our lines in a notebook: an output of the cell that is updated in place.

What a call says, and below it what it is doing, is one output above what the function prints,
with the display id by which Jupyter's front ends replace it. Nothing of a notebook is imported
but what a kernel has imported already.
"""

from __future__ import annotations

import html
import sys
import time
from typing import Any
from uuid import uuid4

from kinetic_flows.core.cards import linked
from kinetic_flows.core.progress import Stream
from kinetic_flows.core.screen import Live, Screen, write_out

UPDATE_SECONDS = 0.5
"""How often what goes on is shown anew: each time is a message, and a part of the saved notebook's
history."""

WIDTH = 120
SPINNER = "◐◓◑◒"
STYLES = {"2": "opacity:.7", "33": "color:#b58900", "1;31": "color:#dc322f"}


class NotebookScreen(Screen):
    """Shows lines in the outputs of cells.

    Args:
        shell: IPython's shell, which knows the cell that is run.
    """

    def __init__(self, shell: Any) -> None:
        super().__init__(sys.stderr, sys.stdout, is_alive=True)
        # What the program prints itself has outputs of its own.
        self._doors = []
        self._shell = shell
        self._block = _Block("")

    def say(self, line: str, style: str = "") -> None:
        """Leave a line above what goes on."""
        with self.lock:
            self._begin_block(anew=not self._lives and self._is_elsewhere())
            self._block.lines.append((line, style))
            self._show()

    def pass_on(self, text: str, stream: Stream) -> None:
        """Write what a program printed, as it is."""
        write_out(sys.stdout if stream == "stdout" else sys.stderr, text)
        self.spoke = time.monotonic()

    def attach(self, live: Live) -> None:
        """Show what something is doing, until it is detached."""
        with self.lock:
            is_first = not self._lives
            self._begin_block(anew=is_first and (self._block.is_over or self._is_elsewhere()))
            super().attach(live)

    def detach(self, live: Live) -> None:
        """Show no more what something is doing."""
        with self.lock:
            super().detach(live)
            self._block.is_over = not self._lives
            self._show()

    def _cell(self) -> str:
        return str(getattr(self._shell, "execution_count", ""))

    def _is_elsewhere(self) -> bool:
        return self._block.cell != self._cell()

    def _begin_block(self, *, anew: bool) -> None:
        if anew:
            self._block = _Block(self._cell())

    def _draw(self) -> None:
        if time.monotonic() - self._block.shown >= UPDATE_SECONDS:
            self._show()

    def _erase(self, then: str = "") -> None:
        """Do nothing: what is shown is replaced, not written over."""

    def _show(self) -> None:
        mark = SPINNER[int(2 * time.monotonic()) % len(SPINNER)]
        doing = [(f"{mark} {live.line(WIDTH)}", "2") for live in self._lives]
        self.spoke = time.monotonic()
        self._block.show([*self._block.lines, *doing])


class _Block:
    """The lines of one call, as one output.

    Args:
        cell: The cell that it belongs to.

    Attributes:
        lines: What stays of it, each line with its style.
        is_over: Whether what it told of has ended.
        shown: When it was last shown.
    """

    def __init__(self, cell: str) -> None:
        self.cell = cell
        self.lines: list[tuple[str, str]] = []
        self.is_over = False
        self.shown = time.monotonic()
        self._id = f"kinetic-{uuid4().hex}"
        self._content: list[tuple[str, str]] = []
        self._is_displayed = False

    def show(self, lines: list[tuple[str, str]]) -> None:
        """Show lines in place of those that were shown."""
        self.shown = time.monotonic()
        if lines == self._content:
            return
        # The kernel has imported it.
        jupyter: Any = sys.modules["IPython.display"]
        bundle = {
            "text/plain": "\n".join(line for line, _ in lines),
            "text/html": _page(lines),
        }
        if self._is_displayed:
            jupyter.update_display(bundle, display_id=self._id, raw=True)
        else:
            jupyter.display(bundle, display_id=self._id, raw=True)
        self._content, self._is_displayed = lines, True


def _page(lines: list[tuple[str, str]]) -> str:
    shown = "\n".join(
        f"<span style='{html.escape(STYLES.get(style, ''))}'>{linked(line)}</span>"
        for line, style in lines
    )
    return f"<pre style='margin:0;white-space:pre-wrap'>{shown}</pre>"


def notebook_screen() -> NotebookScreen | None:
    """Return the screen of the notebook that this process is the kernel of; None for none.

    To be asked where ipykernel is imported.
    """
    global _current
    shell = sys.modules["IPython"].get_ipython()
    if getattr(shell, "kernel", None) is None:
        return None
    if _current is None:
        _current = NotebookScreen(shell)
    return _current


_current: NotebookScreen | None = None
