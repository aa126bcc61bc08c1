"""Servers that answer as they are told, and both clients behind one face."""

import asyncio
import concurrent.futures
import dataclasses
import threading
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from export.client import AsyncDescriptorClient, DescriptorClient


@dataclasses.dataclass
class Script(prediction_service_pb2_grpc.PredictionServiceServicer):
    """A server that records batches and answers as it was told; by default row i of photo p is [len(p), i].

    Attributes:
        failures: statuses and messages of the first requests, one each; None answers.
        answer: a tensor message or an array to answer with.
        wait: seconds before each answer, or a function of the batch, or a list with a number for each request so far as
            it goes.
        refuse: gives a message, or None, for a batch.
        batches: the photos of each request so far.
        peers: the connections they came over.
        cancelled: how many were cancelled before their answer.
        running: how many wait now, and `most` at a time so far.
    """

    failures: list = dataclasses.field(default_factory=list)
    answer: object = None
    wait: object = 0.0
    refuse: object = None
    batches: list = dataclasses.field(default_factory=list)
    peers: list = dataclasses.field(default_factory=list)
    cancelled: int = 0
    running: int = 0
    most: int = 0
    address: str = ""

    def Predict(self, request, context):  # noqa: N802
        batch = list(request.inputs["image_bytes"].string_val)
        with _LOCK:
            self.batches.append(batch)
            self.peers.append(context.peer())
            self.running += 1
            self.most = max(self.most, self.running)
            failure = self.failures.pop(0) if self.failures else None
            if isinstance(self.wait, list):
                wait = self.wait.pop(0) if self.wait else 0.0
            else:
                wait = self.wait(batch) if callable(self.wait) else self.wait
        end = time.monotonic() + wait
        while time.monotonic() < end and context.is_active():
            time.sleep(0.005)
        with _LOCK:
            self.running -= 1
            self.cancelled += not context.is_active()
        if failure is not None:
            context.abort(*failure)
        if self.refuse and (told := self.refuse(batch)):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, told)
        rows = np.array([[len(photo), place] for place, photo in enumerate(batch)], np.float32).reshape(-1, 2)
        response = predict_pb2.PredictResponse()
        value = rows if self.answer is None else self.answer
        message = value if isinstance(value, tensor_pb2.TensorProto) else tf.make_tensor_proto(value)
        response.outputs["descriptors"].CopyFrom(message)
        return response


_LOCK = threading.Lock()


@pytest.fixture
def serve():
    """Starts a `Script` made of these fields; gives it, with its `address`."""
    servers = []

    def start(**fields):
        script = Script(**fields)
        server = grpc.server(concurrent.futures.ThreadPoolExecutor(12))
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(script, server)
        script.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        servers.append(server)
        return script

    yield start
    for server in servers:
        server.stop(0).wait()


class AwaitedClient:
    """asyncio's client with each answer awaited, so that one test can be of both clients."""

    def __init__(self, *args, **settings):
        self._loop = asyncio.new_event_loop()
        self._client = AsyncDescriptorClient(*args, **settings)

    def __getattr__(self, name):
        method = getattr(self._client, name)

        def call(*args, **options):
            found = method(*args, **options)
            return self._iterate(found) if hasattr(found, "__anext__") else self._loop.run_until_complete(found)

        return call

    def _iterate(self, found):
        try:
            while True:
                try:
                    value = self._loop.run_until_complete(anext(found))
                except StopAsyncIteration:
                    return
                yield value
        finally:
            self._loop.run_until_complete(found.aclose())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._loop.run_until_complete(self._client.close())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


@pytest.fixture(params=[DescriptorClient, AwaitedClient], ids=["threads", "asyncio"])
def client_of(request):
    """Makes a client of an address; tests of both clients take it."""
    return request.param
