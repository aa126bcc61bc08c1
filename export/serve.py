"""Serves an exported model on this machine, as TensorFlow Serving would, for development and tests.

Example: python -m export.serve --model_name=descriptor --model_base_path=models/descriptor
"""

import signal
import threading

from absl import flags

from export.server.local_server import DEFAULT_MAX_BODY_BYTES, LocalServer
from pipelines import script

FLAGS = flags.FLAGS

flags.DEFINE_string("model_name", "descriptor", "Name of the model in requests.")
flags.DEFINE_string("model_base_path", None, "Folder of version folders 1, 2, ...", required=True)
flags.DEFINE_integer("port", 8500, "gRPC port; 0 takes a free one.", 0, 65535)
flags.DEFINE_integer("rest_api_port", 8501, "REST port; 0 takes a free one.", 0, 65535)
flags.DEFINE_string("bind_address", "127.0.0.1", "Address to listen on; 0.0.0.0 lets other machines in.")
flags.DEFINE_integer("grpc_max_threads", None, "gRPC requests answered at a time; four a core by default.", 1)
flags.DEFINE_integer("rest_api_timeout_in_ms", 30_000, "Milliseconds that a REST prediction may take.", 1)
flags.DEFINE_integer("rest_api_max_body_bytes", DEFAULT_MAX_BODY_BYTES, "Larger REST bodies are refused.", 1)
flags.DEFINE_float("file_system_poll_wait_seconds", 1.0, "Seconds between looks for a newer version; 0 never looks.", 0)
flags.DEFINE_integer("tensorflow_session_parallelism", 0, "Threads of TensorFlow's pools; 0 chooses.", 0)

_SERVER_FLAGS = (
    "model_name",
    "model_base_path",
    "port",
    "rest_api_port",
    "bind_address",
    "grpc_max_threads",
    "rest_api_timeout_in_ms",
    "rest_api_max_body_bytes",
    "file_system_poll_wait_seconds",
    "tensorflow_session_parallelism",
)


def main() -> None:
    """Serves until it is interrupted or terminated, and says which version is being served where."""
    stop = threading.Event()
    with LocalServer(**{name: FLAGS[name].value for name in _SERVER_FLAGS}) as server:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
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
