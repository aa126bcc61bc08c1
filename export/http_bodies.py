"""Request bodies, as the local server's REST port and the search page read them."""

import contextlib
import socket
import time
from typing import BinaryIO

_LINGER = 5


class BodyReader:
    """A part of request handlers: reads bodies of an announced length, and lets a refused sender hear its answer."""

    rfile: BinaryIO
    connection: socket.socket

    def received(self, length: int) -> bytes:
        """Reads a body of so many bytes.

        Raises:
            ConnectionError: the connection ended before.
        """
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionError("the connection was closed within the body")
        return body

    def discard_rest(self) -> None:
        """Reads what is still being sent, for a while: closing on unread bytes would throw the answer away too."""
        end = time.monotonic() + _LINGER
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(1)
            while time.monotonic() < end and self.rfile.read1(2**16):
                pass
