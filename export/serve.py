"""Serves exported models on this machine, as TensorFlow Serving would, for development and tests.

Example: python -m export.serve --model_name=descriptor --model_base_path=models/descriptor
"""

import signal
import threading

from absl import flags

from export.server.local_server import LocalServer
from export.server.settings import ServerSettings
from pipelines import script

FLAGS = flags.FLAGS

script.define_flags(ServerSettings)


def main() -> None:
    """Serves until it is interrupted or terminated, and says which versions are being served where."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with LocalServer.of(script.from_flags(ServerSettings)) as server:
        told = None
        while not stop.is_set():
            if told != str(server):
                told = str(server)
                print(told, flush=True)
            stop.wait(0.2)


def run() -> None:
    """Entry point."""
    script.run_main(main)


if __name__ == "__main__":
    run()
