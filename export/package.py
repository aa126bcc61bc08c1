"""What lies in a version folder beside the graph: card, warm-up, what was answered to it, checksums."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from export.checksums import write_checksums
from export.reproducible import make_reproducible
from export.served_session import ServedSession
from export.warmup_requests import arrays, warmup_requests, write_requests
from tfretrieval import files

CARD = "descriptor.json"
# What the warm-up requests were answered where the version was made: float32 [photos of all requests, D].
ANSWERS = Path("assets.extra") / "warmup_descriptors.npy"
DESCRIPTORS = "descriptors"


def write_package(
    served: tf.Module, functions: Mapping[str, Callable], folder: Path, longer_side: int, told: Mapping[str, object]
) -> None:
    """Writes a SavedModel and what belongs to it, the checksums last.

    The SavedModel is opened as a server opens it and answers the warm-up requests, so that what cannot be served is not
    left behind.

    Args:
        served: what is saved.
        functions: its signatures by name.
        folder: where; it exists and is empty.
        longer_side: pixels that photos are resized to.
        told: the card; what is known of the signatures is added to it.
    """
    tf.saved_model.save(served, str(folder), signatures=dict(functions))
    make_reproducible(folder)
    with ServedSession(folder) as session:
        requests = warmup_requests(session.signatures, longer_side)
        write_requests(requests, folder)
        np.save(folder / ANSWERS, np.concatenate([row for row in answers(session, requests) if row is not None]))
        signatures = describe_signatures(session.signatures)
    files.write_json(folder / CARD, {**told, "signatures": signatures})
    write_checksums(folder)


def answers(session: ServedSession, requests: list) -> list[np.ndarray | None]:
    """Answers warm-up requests: float32 [n, D] descriptors for each, None for signatures that give none."""
    found = [session(request.model_spec.signature_name, arrays(request)) for request in requests]
    return [outputs.get(DESCRIPTORS) for outputs in found]


def describe_signatures(signatures: Mapping[str, meta_graph_pb2.SignatureDef]) -> dict:
    """Returns signatures as plain values, for `descriptor.json`.

    Returns:
        By name `{"inputs": {name: {"dtype": "float32", "shape": [None, 10]}}, "outputs": ...}`, sorted: a size of None
        is open, a shape of None of any rank; an input that may be left out has a "default" too.
    """
    return {name: _describe(signatures[name]) for name in sorted(signatures)}


def _describe(definition: meta_graph_pb2.SignatureDef) -> dict:
    told = {
        side: {name: _plain(tensors[name]) for name in sorted(tensors)}
        for side, tensors in (("inputs", definition.inputs), ("outputs", definition.outputs))
    }
    for name, value in definition.defaults.items():
        default = tf.make_ndarray(value)
        # As text, a float32 has the digits that it was written with.
        told["inputs"][name]["default"] = float(str(default)) if default.dtype.kind == "f" else default.tolist()
    return told


def _plain(info: meta_graph_pb2.TensorInfo) -> dict:
    sizes = None
    if not info.tensor_shape.unknown_rank:
        sizes = [None if each.size < 0 else each.size for each in info.tensor_shape.dim]
    return {"dtype": tf.as_dtype(info.dtype).name, "shape": sizes}
