"""Where the page is served, and what it accepts."""

import dataclasses

from tfretrieval.errors import InputError


@dataclasses.dataclass(frozen=True)
class PageSettings:
    """How the page is served.

    Attributes:
        host: Address to listen on; others than this machine can reach the page only where it is not a loopback address.
        port: Port to listen on; 0 takes a free one.
        max_bytes: Bytes of a photo that is searched with, at most.
        results: Photos in an answer, at most.

    Raises:
        InputError: a number is out of its range.
    """

    host: str = "127.0.0.1"
    port: int = 8600
    max_bytes: int = 32 * 2**20
    results: int = 60

    def __post_init__(self):
        if not 0 <= self.port < 65536:
            raise InputError(f"--port={self.port}; a port from 0 to 65535 is wanted.")
        for name in ("max_bytes", "results"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name}={getattr(self, name)}; 1 or more is wanted.")
