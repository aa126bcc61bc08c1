"""Messages of gRPC made wrong, seeded, each with the statuses that may answer it."""

import dataclasses
from collections.abc import Callable

import numpy as np
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    predict_pb2,
)

from benchmarks.served.serving import MODEL

PREDICTIONS = "/tensorflow.serving.PredictionService/"
MODELS = "/tensorflow.serving.ModelService/"
# What may come of a message that was changed anywhere: it may even still be right.
ANY = frozenset({"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"})
INVALID = frozenset({"INVALID_ARGUMENT"})
ANY_HTTP = frozenset({200, 400, 404})
BAD_BODY = frozenset({400})
# Refusals of HTTP itself; 499 is for a client that sent less than it said.
BAD_HTTP = frozenset({400, 404, 413, 414, 431, 499, 501, 505})
_ALPHABET = tuple('{}[]:,"\\0189.-eE+ntrufalsib64 \n\0\xff\u20ac')


@dataclasses.dataclass(frozen=True)
class Attack:
    """A request that is wrong in some way.

    Attributes:
        kind: in what way.
        target: a method of gRPC, a path of HTTP, or "" for bytes that are a whole HTTP request.
        content: a message, a body, or a whole request.
        allowed: the statuses that answer it: names over gRPC, numbers over HTTP.
    """

    kind: str
    target: str
    content: bytes
    allowed: frozenset

    @property
    def is_grpc(self) -> bool:
        """Whether it goes over gRPC."""
        return self.target.startswith(("/tensorflow.", "/grpc."))


def predict_request(photo: bytes, count: int = 1) -> predict_pb2.PredictRequest:
    """Returns a request that is right."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = MODEL
    tensor = request.inputs["image_bytes"]
    tensor.dtype = types_pb2.DT_STRING
    tensor.string_val.extend([photo] * count)
    tensor.tensor_shape.dim.add(size=count)
    return request


def _attack(kind: str, request: predict_pb2.PredictRequest, allowed: frozenset = INVALID) -> Attack:
    return Attack(kind, f"{PREDICTIONS}Predict", request.SerializeToString(), allowed)


def changed_bytes(content: bytes, random: np.random.Generator) -> bytes:
    """Flips, cuts, puts in or doubles bytes, one to four times."""
    changed = bytearray(content)
    for _ in range(random.integers(1, 5)):
        at, how = int(random.integers(len(changed) + 1)), random.integers(4)
        if how == 0 and at < len(changed):
            changed[at] ^= 1 << random.integers(8)
        elif how == 1:
            del changed[at : at + int(random.integers(1, 20))]
        elif how == 2:
            changed[at:at] = random.bytes(int(random.integers(1, 12)))
        else:
            changed[at:at] = changed[at : at + int(random.integers(1, 40))]
    return bytes(changed)


def _wire(random: np.random.Generator, photo: bytes) -> Attack:
    # With few bytes of photo, the changes are in what surrounds it.
    request = predict_request(photo if random.integers(2) else b"x")
    request.model_spec.signature_name = ("", "", "", "serving_default", "images", "card")[random.integers(6)]
    request.output_filter.extend(["descriptors"] * int(random.integers(2)))
    return dataclasses.replace(
        _attack("wire bytes", request, ANY), content=changed_bytes(request.SerializeToString(), random)
    )


def _noise(random: np.random.Generator, _: bytes) -> Attack:
    method = ("Predict", "GetModelMetadata")[random.integers(2)]
    return Attack("noise as a message", PREDICTIONS + method, random.bytes(int(random.integers(1, 300))), ANY)


def _dtype(random: np.random.Generator, photo: bytes) -> Attack:
    request = predict_request(photo)
    dtypes = [number for number in types_pb2.DataType.values() if number != types_pb2.DT_STRING]
    request.inputs["image_bytes"].dtype = [*dtypes, 9999, -1, 2**31 - 1][random.integers(len(dtypes) + 3)]
    return _attack("wrong dtype", request)


_SHAPES = (
    [],
    [2, 2],
    [1, 1],
    [0, 5],
    [-1],
    [-5, 3],
    [2**31],
    [2**62, 2**62],
    [2**32, 2**32],
    [10**12],
    [1] * 70,
    [2**63 - 1],
)


def _shape(random: np.random.Generator, photo: bytes) -> Attack:
    """A shape that is not [N], or stands for far more than is there."""
    request = predict_request(photo)
    shape = request.inputs["image_bytes"].tensor_shape
    del shape.dim[:]
    for size in _SHAPES[random.integers(len(_SHAPES))]:
        shape.dim.add(size=size)
    shape.unknown_rank = not shape.dim and bool(random.integers(2))
    return _attack("wrong shape", request)


_PIXEL_SHAPES = (
    [1, 4, 4], [1, 4, 4, 4], [-1, 4, 4, 3], [10**6, 10**6, 10**6, 3], [0, 2**40, 2**40, 3], [1, 2**31, 1, 3],
    [2**21, 2**21, 2**21, 3], [1, 0, 7, 3], [5, 0, 0, 3],
)  # fmt: skip


def _pixels(random: np.random.Generator, _: bytes) -> Attack:
    """Decoded photos of impossible shapes, as values, as content or filled up from one value."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = MODEL, "images"
    tensor = request.inputs["images"]
    tensor.dtype = types_pb2.DT_UINT8
    for size in _PIXEL_SHAPES[random.integers(len(_PIXEL_SHAPES))]:
        tensor.tensor_shape.dim.add(size=size)
    how = random.integers(4)
    if how == 0:
        tensor.tensor_content = bytes(48)
    elif how == 1:
        tensor.int_val.append(7)
    elif how == 2:
        tensor.int_val.extend([-1, 300, 2**31 - 1])
    # A shape of no pixels and no photos is one that may be described: nothing comes back.
    return _attack("impossible pixels", request, INVALID | {"OK"})


def _scales(random: np.random.Generator, _: bytes) -> Attack:
    """Requests of DELG's signature with scales and indices of all kinds."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = MODEL, "delg"
    image, scales, indices = (
        request.inputs[name] for name in ("input_image", "input_scales", "input_global_scales_ind")
    )
    image.dtype, scales.dtype, indices.dtype = types_pb2.DT_UINT8, types_pb2.DT_FLOAT, types_pb2.DT_INT32
    for size in (4, 5, 3):
        image.tensor_shape.dim.add(size=size)
    image.int_val.append(100)
    values = [(1.0,), (0.0,), (-1.0,), (float("nan"),), (float("inf"),), (1e30,), (1e-30,), (1.0,) * 40][
        random.integers(8)
    ]
    scales.float_val.extend(values)
    scales.tensor_shape.dim.add(size=len(values))
    places = [(0,), (-1,), (5,), (2**31 - 1,), ()][random.integers(5)]
    indices.int_val.extend(places)
    indices.tensor_shape.dim.add(size=len(places))
    return _attack("scales", request, INVALID | {"OK"})


def _boxes(random: np.random.Generator, photo: bytes) -> Attack:
    request = predict_request(photo)
    request.model_spec.signature_name = "query"
    boxes = request.inputs["boxes"]
    boxes.dtype = types_pb2.DT_FLOAT
    for size in ((1, 4), (2, 4), (1, 3), (4,), (0, 4))[random.integers(5)]:
        boxes.tensor_shape.dim.add(size=size)
    pool = (0.0, 5.0, -1e9, 1e9, float("nan"), float("inf"), 3.4e38, 1e-40)
    boxes.float_val.extend(pool[random.integers(len(pool))] for _ in range(int(random.integers(1, 9))))
    return _attack("boxes", request, INVALID | {"OK"})


def _names(random: np.random.Generator, photo: bytes) -> Attack:
    """Names that are of nothing: models, signatures, inputs, outputs, labels, versions."""
    request, names = (
        predict_request(photo),
        ("../../etc/passwd", "..", "a" * 5000, "descr\u0456ptor", "\0", " ", "%2e%2e"),
    )
    name, which = names[random.integers(len(names))], random.integers(6)
    if which == 0:
        request.model_spec.name = name
        return _attack("a model's name", request, frozenset({"NOT_FOUND"}))
    if which == 1:
        request.model_spec.signature_name = name
        return _attack("a signature's name", request, frozenset({"FAILED_PRECONDITION"}))
    if which == 2:
        request.inputs[name].CopyFrom(request.inputs["image_bytes"])
    elif which == 3:
        request.output_filter.append(name)
    elif which == 4:
        request.model_spec.version_label = name
    else:
        request.model_spec.version.value = (-1, 2**63 - 1, 0, 10**9)[random.integers(4)]
        return _attack("a version's number", request, frozenset({"NOT_FOUND"}))
    return _attack("a name", request)


def _about(random: np.random.Generator, _: bytes) -> Attack:
    """Questions about models, changed in their bytes."""
    if random.integers(2):
        asked = get_model_status_pb2.GetModelStatusRequest()
        asked.model_spec.name = MODEL
        return Attack("status", f"{MODELS}GetModelStatus", changed_bytes(asked.SerializeToString(), random), ANY)
    asked = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    asked.model_spec.name = MODEL
    content = changed_bytes(asked.SerializeToString(), random)
    return Attack("metadata", f"{PREDICTIONS}GetModelMetadata", content, ANY)


def _methods(random: np.random.Generator, photo: bytes) -> Attack:
    methods = ("Classify", "Regress", "MultiInference", "predict", "Predict/", "../Predict", "\u0416", "a" * 3000)
    method = methods[random.integers(len(methods))]
    # The others do parse their messages first.
    content = b"" if method in methods[:3] else predict_request(photo).SerializeToString()
    return Attack("a method", PREDICTIONS + method, content, frozenset({"UNIMPLEMENTED"}))


def _reload(random: np.random.Generator, _: bytes) -> Attack:
    """Configurations, every one of which has to be refused: by its name, its path, its platform or its content."""
    request = model_management_pb2.ReloadConfigRequest()
    names = ("../../etc", "", "a/b", "..", "x" * 300, "ok")
    paths = (
        "relative",
        "/a/../../etc",
        "/proc/self/fd/../../root",
        "/nowhere\0",
        "/dev/null",
        "/nowhere",
        "/" + "a" * 5000,
    )
    request.config.model_config_list.config.add(
        name=names[random.integers(len(names))],
        base_path=paths[random.integers(len(paths))],
        model_platform=("tensorflow", "caffe", "")[random.integers(3)],
    )
    allowed = frozenset({"INVALID_ARGUMENT", "FAILED_PRECONDITION"})
    return Attack("a configuration", f"{MODELS}HandleReloadConfigRequest", request.SerializeToString(), allowed)


MESSAGES: tuple[Callable[[np.random.Generator, bytes], Attack], ...] = (
    _wire, _noise, _dtype, _shape, _pixels, _scales, _boxes, _names, _about, _methods, _reload, _wire,
)  # fmt: skip
