"""Makes a SavedModel's bytes depend on nothing but its content.

TensorFlow numbers functions by what a process made before, lists them in no order, and draws a random identifier for
the fingerprint. Here functions are numbered and listed as they are reached from the signatures, and the identifier is
made of the content.
"""

import hashlib
from pathlib import Path

from tensorflow.core.protobuf import fingerprint_pb2, saved_model_pb2
from tensorflow.python.saved_model.pywrap_saved_model import fingerprinting

from export.function_names import all_nodes, name_resources, number_functions

SAVED_MODEL, FINGERPRINT = "saved_model.pb", "fingerprint.pb"
# "PartitionedCall-1577": for taking gradients in the process that made it.
_CALL_NUMBER = "_gradient_op_type"
# Of an argument; a number, where it is a tensor that a function took from outside.
_ARGUMENT_NAME = "_user_specified_name"


def make_reproducible(folder: str | Path) -> None:
    """Rewrites `saved_model.pb` and `fingerprint.pb` of a SavedModel that was just saved.

    Two exports of one network in two processes are then equal byte by byte, where TensorFlow and Keras are of the same
    versions.

    Args:
        folder: the SavedModel.
    """
    path = Path(folder) / SAVED_MODEL
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for meta_graph in saved.meta_graphs:
        for node in all_nodes(meta_graph.graph_def):
            node.attr.pop(_CALL_NUMBER, None)
        for function in meta_graph.graph_def.library.function:
            for argument in function.arg_attr.values():
                if _ARGUMENT_NAME in argument.attr and argument.attr[_ARGUMENT_NAME].s.isdigit():
                    del argument.attr[_ARGUMENT_NAME]
        name_resources(meta_graph.graph_def)
        objects = meta_graph.object_graph_def.nodes
        number_functions(
            meta_graph.graph_def,
            within=meta_graph,
            first=(name for each in objects for name in each.function.concrete_functions),
        )
    content = saved.SerializeToString(deterministic=True)
    path.write_bytes(content)
    made = fingerprint_pb2.FingerprintDef.FromString(fingerprinting.CreateFingerprintDef(str(folder)))
    identifier = hashlib.sha256(content + str(made.checkpoint_hash).encode()).digest()
    made.uuid = str(int.from_bytes(identifier[:16], "big"))
    (Path(folder) / FINGERPRINT).write_bytes(made.SerializeToString(deterministic=True))
