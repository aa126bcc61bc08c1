"""A network small enough to be served in seconds, its export with all signatures, and the local server on it."""

import pytest

from benchmarks.served.tiny_network import tiny_network, write_tiny_version
from export.sent_photos import PhotoLimits
from export.server import LocalServer

SIDE = 48


@pytest.fixture(scope="session")
def network():
    return tiny_network()


@pytest.fixture(scope="session")
def tiny_base(network, tmp_path_factory):
    """A model's folder with one version, which takes photos of up to 4 million pixels."""
    base = tmp_path_factory.mktemp("tiny") / "descriptor"
    write_tiny_version(network, SIDE, base / "1", PhotoLimits(max_pixels=4_000_000))
    return base


@pytest.fixture(scope="session")
def server(tiny_base):
    """The local server in this process, which batches requests, and which `FuzzClient` takes for a process."""
    with LocalServer("descriptor", tiny_base, enable_batching=True, file_system_poll_wait_seconds=0) as running:
        running.is_running = True
        yield running
