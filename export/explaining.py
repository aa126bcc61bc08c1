"""An export's signatures in words, with requests that work when they are pasted."""

from collections.abc import Mapping
from pathlib import Path

# What tensors of this toolkit's signatures are, by name; any other is told without a meaning.
MEANINGS = {
    "image_bytes": "photos as files: JPEG, PNG, WebP, BMP or GIF",
    "descriptors": "one descriptor for each photo, of length 1",
    "boxes": "left, top, right, bottom in pixels of the upright photo",
    "images": "upright RGB photos of one size",
    "card": "JSON: what the model is",
    "least_score": "objects below it are dropped; for all photos or for each",
    "overlap": "intersection over union above which the lesser of two objects of one class is dropped",
    "object_descriptors": "descriptors of the objects, best first; zeros behind `count`",
    "scores": "scores, best first",
    "classes": "numbers of the objects' classes",
    "class_names": "names of the objects' classes",
    "count": "how many objects there are",
    "k": "photos wanted",
    "ids": "ids of the indexed photos, best first",
    "input_image": "one upright RGB photo",
    "input_scales": "factors on the photo's sides",
    "input_global_scales_ind": "places in input_scales of those that are described",
    "global_descriptors": "a descriptor for each scale, of length 1",
}
_OF_SIGNATURE = {
    ("objects", "boxes"): "top, left, bottom, right in pixels of the upright photo",
    ("search", "scores"): "dot products with the indexed descriptors, best first",
}
# Values of inputs in the examples: as Python and as JSON.
_PYTHON = {
    "image_bytes": 'np.array([Path("photo.jpg").read_bytes()], object)',
    "boxes": "np.array([[10, 20, 200, 180]], np.float32)",
    "images": "np.zeros((1, 240, 320, 3), np.uint8)",
    "input_image": "np.zeros((240, 320, 3), np.uint8)",
    "input_scales": "np.array([1.0, 0.7071], np.float32)",
    "input_global_scales_ind": "np.array([0, 1], np.int32)",
}
_JSON = {
    "image_bytes": '[{"b64": "\'$(base64 -w0 photo.jpg)\'"}]',
    "boxes": "[[10, 20, 200, 180]]",
    "input_scales": "[1.0, 0.7071]",
    "input_global_scales_ind": "[0, 1]",
}


def explain(version: Path, card: Mapping, signatures: Mapping[str, Mapping], model_name: str, server: str) -> str:
    """Describes a version folder.

    Args:
        version: the folder.
        card: its `descriptor.json`; empty where it has none.
        signatures: what `package.describe_signatures` gives.
        model_name: name of the model in requests.
        server: host in requests.

    Returns:
        Text of several lines.
    """
    lines = [f"{version}"]
    for name in ("dimension", "image_size", "precision", "scales", "trained_on", "model_sha256"):
        if name in card.get("descriptor", {}):
            lines.append(f"  {name}: {card['descriptor'][name]}")
    checked = card.get("precision_check") or {}
    if "min_cosine" in checked:
        lines.append(
            f"  cosine to the Keras model: at least {checked['min_cosine']}, on {checked['photos']} photos "
            f"({checked['of']})"
        )
    for name, signature in signatures.items():
        lines += ["", f"signature {name}", *_table(name, signature), *_examples(name, signature, model_name, server)]
    return "\n".join(lines)


def _table(name: str, signature: Mapping[str, Mapping]) -> list[str]:
    rows = []
    for side in ("inputs", "outputs"):
        for tensor, told in signature[side].items():
            shape = "any shape" if told["shape"] is None else str(told["shape"]).replace("None", "?")
            default = f"; {told['default']} when left out" if "default" in told else ""
            meaning = _OF_SIGNATURE.get((name, tensor), MEANINGS.get(tensor, ""))
            rows.append((side.removesuffix("s"), tensor, told["dtype"], shape, meaning + default))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return [
        "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, [*widths, 0], strict=True)).rstrip()
        for row in rows
    ]


def _examples(name: str, signature: Mapping[str, Mapping], model_name: str, server: str) -> list[str]:
    """Returns a request over gRPC in Python, and one by curl where the inputs fit into a command."""
    required = [tensor for tensor, told in signature["inputs"].items() if "default" not in told]
    if any(tensor not in _PYTHON for tensor in required):
        return []
    lines = [
        "  gRPC:",
        "    import grpc",
        "    import numpy as np",
        "    import tensorflow as tf",
        "    from pathlib import Path",
        "    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc",
        "",
        f'    request = predict_pb2.PredictRequest(model_spec={{"name": "{model_name}", "signature_name": "{name}"}})',
        *(f'    request.inputs["{tensor}"].CopyFrom(tf.make_tensor_proto({_PYTHON[tensor]}))' for tensor in required),
        f'    stub = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel("{server}:8500"))',
        "    answer = stub.Predict(request, timeout=30)",
        *(f'    print(tf.make_ndarray(answer.outputs["{tensor}"]))' for tensor in signature["outputs"]),
    ]
    # TensorFlow Serving's REST side asks for every input, those with a default too, and for one at least.
    values = {tensor: _json(tensor, told) for tensor, told in signature["inputs"].items()}
    if None in values.values() or not values:
        return lines
    inputs = ", ".join(f'"{tensor}": {value}' for tensor, value in values.items())
    body = f"""'{{"signature_name": "{name}", "inputs": {{{inputs}}}}}'"""
    url = f"http://{server}:8501/v1/models/{model_name}:predict"
    return [*lines, "  REST:", f"    echo {body} |", f"      curl -s --data @- {url}"]


def _json(tensor: str, told: Mapping) -> str | None:
    return str(told["default"]) if "default" in told else _JSON.get(tensor)
