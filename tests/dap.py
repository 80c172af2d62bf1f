"""A client of the Debug Adapter Protocol, as an editor is one: enough to stop at a line."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from types import TracebackType
from typing import Any, Self

SECONDS = 60.0


class DebugClient:
    """A connection to a debugger that listens on this machine.

    Args:
        port: The port.
    """

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
        self._file = self._socket.makefile("rb")
        self._number = 0
        self._seen: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._socket.close()

    def attach(self, configuration: dict[str, Any], file: Path, line: int) -> bool:
        """Attach as a configuration of an editor says, with a breakpoint; whether that is known.

        Args:
            configuration: An entry of `launch.json`.
            file: The file, as this machine has it.
            line: The line of the breakpoint.
        """
        self.ask("initialize", adapterID="debugpy", pathFormat="path", linesStartAt1=True)
        attaching = self._send("attach", configuration)
        self.event("initialized")
        breakpoints = self.ask(
            "setBreakpoints", source={"path": str(file)}, breakpoints=[{"line": line}]
        )
        self.ask("configurationDone")
        self._answer(attaching)
        return bool(breakpoints["breakpoints"][0]["verified"])

    def stopped_frame(self) -> tuple[int, dict[str, Any]]:
        """Wait until a thread stops; return it, and its innermost frame."""
        thread: int = self.event("stopped")["threadId"]
        return thread, self.ask("stackTrace", threadId=thread)["stackFrames"][0]

    def evaluate(self, frame: dict[str, Any], expression: str) -> str:
        """Return the value of an expression in a frame, as a text."""
        return str(self.ask("evaluate", expression=expression, frameId=frame["id"])["result"])

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send a request, and return the body of its answer."""
        return self._answer(self._send(command, arguments))

    def event(self, name: str) -> dict[str, Any]:
        """Wait for an event, and return its body."""
        return dict(self._find(lambda message: message.get("event") == name).get("body") or {})

    def _send(self, command: str, arguments: dict[str, Any]) -> int:
        self._number += 1
        request = {"seq": self._number, "type": "request", "command": command}
        data = json.dumps({**request, "arguments": arguments}).encode()
        self._socket.sendall(b"Content-Length: %d\r\n\r\n" % len(data) + data)
        return self._number

    def _answer(self, number: int) -> dict[str, Any]:
        answer = self._find(lambda message: message.get("request_seq") == number)
        assert answer["success"], answer
        return dict(answer.get("body") or {})

    def _find(self, wanted: Any) -> dict[str, Any]:
        for message in self._seen:
            if wanted(message):
                self._seen.remove(message)
                return message
        while not wanted(message := self._read()):
            self._seen.append(message)
        return message

    def _read(self) -> dict[str, Any]:
        length = 0
        while (line := self._line()) or not length:
            name, _, value = line.partition(b":")
            length = int(value) if name == b"Content-Length" else length
        message: dict[str, Any] = json.loads(self._file.read(length))
        return message

    def _line(self) -> bytes:
        line = self._file.readline()
        if not line:
            raise EOFError("the debugger has closed the connection")
        return line.strip()
