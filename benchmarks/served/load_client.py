"""One client of benchmarks.load_server: sends requests, judges the answers, notes each; made to be killed.

A process of its own that loads no TensorFlow, so that it starts in half a second: the messages come with the requests.
Its folder holds `messages.pb` (a FileDescriptorSet), `requests.json` ([{"file", "rows"}], rows empty where the request
has to be refused), the requests' files, and `expected.npy`: float32 [2, photos, D], of even and of odd versions.
Usage: python -m benchmarks.served.load_client FOLDER ADDRESS NOTES RATE THREADS SEED
"""

import json
import random
import signal
import sys
import threading
import time
from pathlib import Path

import grpc
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

METHOD = "/tensorflow.serving.PredictionService/Predict"
TIMEOUT = 60.0
LEAST_COSINE = 0.9999
SENT, ANSWERED = "sent", "answered"


class LoadClient:
    """Sends requests as they come due, or one after the other.

    Args:
        folder: what to send.
        address: the server's `host:port`.
        notes: file that a line is added to for each request sent and each answered.
        seed: of the choice of requests and of the times between them.
    """

    def __init__(self, folder: Path, address: str, notes: Path, seed: int):
        self._random = random.Random(seed)
        self._expected = np.load(folder / "expected.npy")
        self._requests = [
            ((folder / each["file"]).read_bytes(), each["rows"])
            for each in json.loads((folder / "requests.json").read_text(encoding="utf-8"))
        ]
        self._response = _response_class(folder / "messages.pb")
        self._channel = grpc.insecure_channel(address, [("grpc.max_receive_message_length", -1)])
        self._predict = self._channel.unary_unary(METHOD)
        self._notes = notes.open("a", buffering=1, encoding="utf-8")
        self._lock = threading.Lock()
        self._waiting = 0
        self.stop = threading.Event()

    def send_at(self, rate: float) -> None:
        """Sends `rate` requests a second at random times, whether or not earlier ones are answered."""
        due = time.perf_counter()
        while not self.stop.is_set():
            due += self._random.expovariate(rate)
            self.stop.wait(max(0.0, due - time.perf_counter()))
            content, rows = self._random.choice(self._requests)
            self._note(SENT)
            start = time.perf_counter()
            future = self._predict.future(content, timeout=TIMEOUT)
            future.add_done_callback(lambda done, start=start, rows=rows: self._judge(done, start, rows))
        while self._waiting:
            time.sleep(0.02)

    def send_in_turn(self) -> None:
        """Sends a request as soon as the one before is answered."""
        while not self.stop.is_set():
            content, rows = self._random.choice(self._requests)
            self._note(SENT)
            start = time.perf_counter()
            future = self._predict.future(content, timeout=TIMEOUT)
            future.exception()  # waits
            self._judge(future, start, rows)

    def _judge(self, future: grpc.Future, start: float, rows: list[int]) -> None:
        milliseconds, version, fault = 1000 * (time.perf_counter() - start), 0, ""
        status, told = future.code().name, (future.details() or "")[:80]
        if status == "OK":
            response = self._response.FromString(future.result())
            version = response.model_spec.version.value
            fault = self.fault(response, version, rows)
        elif status == "INVALID_ARGUMENT" and rows:
            fault = f"a right request was refused: {told}"
        self._note(ANSWERED, status, milliseconds, version, len(rows), fault, told)

    def fault(self, response: object, version: int, rows: list[int]) -> str:
        """Returns what is wrong with an answer's descriptors; empty for nothing.

        Args:
            response: a PredictResponse.
            version: the version that answered.
            rows: the photos that were sent; none where the request had to be refused.
        """
        if not rows:
            return "a broken photo was described"
        expected = self._expected[version % 2, rows]
        found = np.array(response.outputs["descriptors"].float_val, np.float32)
        if found.size != expected.size:
            return f"{found.size} numbers for {len(rows)} photos"
        cosine = float((found.reshape(expected.shape) * expected).sum(axis=1).min())
        return "" if cosine >= LEAST_COSINE else f"cosine {cosine:.5f} to the right descriptor of version {version}"

    def _note(self, what: str, *told: object) -> None:
        with self._lock:
            self._waiting += 1 if what == SENT else -1
            self._notes.write(json.dumps([time.time(), what, *told]) + "\n")


def _response_class(path: Path) -> type:
    """Returns the class of PredictResponse, declared by the files of a FileDescriptorSet."""
    pool, files = descriptor_pool.DescriptorPool(), descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes())
    for file in files.file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.serving.PredictResponse"))


def main(folder: str, address: str, notes: str, rate: str, threads: str, seed: str) -> None:
    """Sends until it is terminated, and then waits for the answers."""
    client = LoadClient(Path(folder), address, Path(notes), int(seed))
    signal.signal(signal.SIGTERM, lambda *_: client.stop.set())
    if float(rate):
        client.send_at(float(rate))
        return
    senders = [threading.Thread(target=client.send_in_turn) for _ in range(int(threads))]
    for sender in senders:
        sender.start()
    for sender in senders:
        while sender.is_alive():  # a signal is not noticed within a join without a limit
            sender.join(0.1)


if __name__ == "__main__":
    main(*sys.argv[1:])
