"""The signature `objects` through a server: gRPC, REST, and the client."""

import asyncio
import base64
import concurrent.futures
import json
import urllib.error
import urllib.request

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from export.client import AsyncDescriptorClient, DescriptorClient, RefusedPhoto, ServingError
from export.saving import ServedModel
from export.served_objects import extract_served_objects
from tfretrieval.errors import InputError
from tfretrieval.object_extraction import ExtractionOptions, extract_objects

PREDICT = "/v1/models/descriptor:predict"


@pytest.fixture(scope="module")
def expected(object_base, object_photos):
    """What the SavedModel in this process says, by its own thresholds."""
    return ServedModel.load(object_base).describe_objects(object_photos[0])


def request_of(**inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "descriptor", "objects"
    for name, value in inputs.items():
        dtype = tf.string if name == "image_bytes" else tf.float32
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value, dtype))
    return request


def ask(endpoint, body):
    """Returns status and answer of a REST request."""
    request = urllib.request.Request(endpoint.rest_url + PREDICT, json.dumps(body).encode(), method="POST")
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def b64(photo):
    return {"b64": base64.b64encode(photo).decode()}


@pytest.mark.parametrize(
    "given", [{}, {"overlap": 0.4}, {"least_score": 0.55, "overlap": [0.4] * 6}], ids=["none", "one", "both"]
)
def test_a_grpc_request_may_leave_thresholds_out(object_endpoint, object_photos, expected, given):
    response = object_endpoint.predictions.Predict(request_of(image_bytes=object_photos[0], **given))
    for name in ("descriptors", "object_descriptors", "boxes", "scores"):
        np.testing.assert_allclose(tf.make_ndarray(response.outputs[name]), getattr(expected, name), atol=1e-3)
    for name in ("classes", "class_names", "count"):
        np.testing.assert_array_equal(tf.make_ndarray(response.outputs[name]), getattr(expected, name))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"least_score": 0.5},
            r"Signature input alias: image_bytes\(feed name: objects_image_bytes:0\) not found in request and no "
            "default value provided",
        ),
        ({"image_bytes": [b""], "most": 3.0}, "Inputs contains invalid name. Used request inputs: image_bytes"),
        ({"image_bytes": [b"no image"]}, r"image_bytes\[0\]: not an image"),
    ],
)
def test_what_is_wrong_with_a_grpc_request_is_told(object_endpoint, given, told):
    with pytest.raises(grpc.RpcError, match=told) as caught:
        object_endpoint.predictions.Predict(request_of(**given))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_rest_by_column_gives_one_threshold_for_all(object_endpoint, object_photos, expected):
    inputs = {"image_bytes": [b64(photo) for photo in object_photos[0]], "least_score": 0.55, "overlap": 0.4}
    status, answer = ask(object_endpoint, {"signature_name": "objects", "inputs": inputs})
    assert status == 200
    assert answer["outputs"]["count"] == expected.count.tolist()
    np.testing.assert_allclose(answer["outputs"]["boxes"], expected.boxes, atol=1e-3)
    assert answer["outputs"]["class_names"] == [[name.decode() for name in row] for row in expected.class_names]


def test_rest_by_row_gives_thresholds_for_each(object_endpoint, object_photos, expected):
    rows = [{"image_bytes": b64(photo), "least_score": 0.55, "overlap": 0.4} for photo in object_photos[0]]
    rows[1]["least_score"] = 1.0
    status, answer = ask(object_endpoint, {"signature_name": "objects", "instances": rows})
    assert status == 200
    counts = [row["count"] for row in answer["predictions"]]
    assert counts == [0 if row == 1 else count for row, count in enumerate(expected.count.tolist())]
    np.testing.assert_allclose(answer["predictions"][0]["scores"], expected.scores[0], atol=1e-5)


def test_rest_wants_every_input(object_endpoint, object_photos):
    """TensorFlow Serving reads the inputs of a JSON body from the signature, and asks for each of them."""
    inputs = {"image_bytes": [b64(object_photos[0][0])], "overlap": 0.4}
    status, answer = ask(object_endpoint, {"signature_name": "objects", "inputs": inputs})
    assert (status, answer["error"]) == (400, "Missing named input: least_score in 'inputs' object.")


def test_the_client_yields_photos_and_their_objects_in_order(object_endpoint, object_photos, expected):
    with DescriptorClient(object_endpoint.grpc_address, max_batch_photos=4) as client:
        found = list(client.describe_objects(iter(object_photos[0])))
        bare = list(client.describe_objects(object_photos[0][:1], least_score=1.0, overlap=0.0))
        assert list(client.describe_objects([])) == []
    assert [len(photo.objects) for photo in found] == expected.count.tolist()
    for photo, wanted in zip(found, expected.photos(), strict=True):
        np.testing.assert_allclose(photo.descriptor, wanted.descriptor, atol=1e-5)
        for one, other in zip(photo.objects, wanted.objects, strict=True):
            assert one.box == pytest.approx(other.box, abs=1e-3)
            assert one.score == pytest.approx(other.score, abs=1e-5)
            assert (one.class_number, one.class_name) == (other.class_number, other.class_name)
            np.testing.assert_allclose(one.descriptor, other.descriptor, atol=1e-5)
    assert bare[0].objects == ()
    np.testing.assert_allclose(bare[0].descriptor, found[0].descriptor, atol=1e-5)


def test_streams_of_both_clients_give_photos_and_objects_and_skip_what_is_refused(
    object_endpoint, object_photos, expected
):
    photos = object_photos[0]
    given = [("first", photos[0]), ("broken", b"no image"), *((str(n), photo) for n, photo in enumerate(photos[1:]))]

    async def awaited():
        async with AsyncDescriptorClient(object_endpoint.grpc_address, max_batch_photos=3) as client:
            return [found async for found in client.stream_objects(given, skip_refused=True)]

    with DescriptorClient(object_endpoint.grpc_address, max_batch_photos=3) as client:
        streams = list(client.stream_objects(given, skip_refused=True)), asyncio.run(awaited())
    for first, broken, *rest in streams:
        assert isinstance(broken, RefusedPhoto) and broken.reason.startswith("not an image")
        assert [(each.id, each.place) for each in rest] == [(str(n), n + 2) for n in range(5)]
        for found, wanted in zip([first, *rest], expected.photos(), strict=True):
            np.testing.assert_allclose(found.descriptor, wanted.descriptor, atol=1e-5)
            assert [each.class_name for each in found.objects] == [each.class_name for each in wanted.objects]


def test_objects_of_a_split_are_those_of_the_run(object_endpoint, guided_run, record_set):
    split = record_set.split("database")
    options = ExtractionOptions(most_objects=3, least_score=0.55, overlap=0.4)
    with DescriptorClient(object_endpoint.grpc_address, max_batch_photos=5) as client:
        found = extract_served_objects(client, split, options, {"seed": None})
    wanted = extract_objects(guided_run, "best", split, record_set.classes, options, {"seed": None})
    assert found.photos == wanted.photos and len(found.vectors) > len(split)
    for name in ("offsets", "classes", "numbers", "class_names"):
        np.testing.assert_array_equal(getattr(found.objects, name), getattr(wanted.objects, name))
    np.testing.assert_allclose(found.objects.boxes, wanted.objects.boxes, atol=1e-3)
    np.testing.assert_allclose(found.objects.scores, wanted.objects.scores, atol=1e-4)
    np.testing.assert_allclose(found.vectors, wanted.vectors, atol=1e-3)
    np.testing.assert_allclose(found.whole, wanted.whole, atol=1e-3)
    same = ("model_sha256", "image_size", "boxes", "passes", "split", "seed")
    assert {name: found.meta[name] for name in same} == {name: wanted.meta[name] for name in same}


def test_options_that_a_server_cannot_follow_are_told(object_endpoint, record_set):
    split = record_set.split("queries")
    for options, told in [
        (ExtractionOptions(boxes="annotated"), "--boxes and --crops are of --model=RUN"),
        (ExtractionOptions(most_objects=5), "was exported with --objects_most=4; 4 or less is wanted"),
    ]:
        with DescriptorClient(object_endpoint.grpc_address) as client, pytest.raises(InputError, match=told):
            extract_served_objects(client, split, options, {})
    with DescriptorClient("127.0.0.1:1", timeout=0.5) as client, pytest.raises(InputError, match="did not describe"):
        extract_served_objects(client, split, ExtractionOptions(), {})


def test_the_client_names_refused_photos_by_their_place_among_all(object_endpoint, object_photos):
    photos = [*object_photos[0], b"not an image"]
    with (
        DescriptorClient(object_endpoint.grpc_address, max_batch_photos=4) as client,
        pytest.raises(ServingError) as caught,
    ):
        list(client.describe_objects(photos))
    assert caught.value.photos == (6,)
    assert caught.value.message.startswith("image_bytes[6]: not an image")


def test_the_local_server_names_a_broken_photo_though_thresholds_are_for_all(object_endpoint, object_photos):
    if not object_endpoint.is_local:
        pytest.skip("the real server names no rows")
    with DescriptorClient(object_endpoint.grpc_address) as client, pytest.raises(ServingError) as caught:
        list(client.describe_objects([object_photos[0][0], object_photos[0][2][:200]], least_score=0.5))
    assert caught.value.photos == (1,)


def test_a_threshold_out_of_range_is_told_once(object_endpoint, object_photos):
    with DescriptorClient(object_endpoint.grpc_address) as client, pytest.raises(ServingError) as caught:
        list(client.describe_objects(object_photos[0], least_score=1.5))
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.message.count("least_score: 1.5; a share from 0 to 1 is wanted") == 1


def test_a_model_without_objects_describes_none_of_a_split(endpoint, record_set):
    with DescriptorClient(endpoint.grpc_address) as client, pytest.raises(InputError, match="finds no objects"):
        extract_served_objects(client, record_set.split("queries"), ExtractionOptions(), {})


def test_a_model_without_objects_is_a_failed_precondition(endpoint, photos):
    with DescriptorClient(endpoint.grpc_address) as client, pytest.raises(ServingError) as caught:
        list(client.describe_objects(photos))
    assert caught.value.code == grpc.StatusCode.FAILED_PRECONDITION


def test_the_card_and_the_metadata_tell_of_objects(object_endpoint):
    with DescriptorClient(object_endpoint.grpc_address) as client:
        objects, known = client.card()["objects"], client.metadata()["signatures"]["objects"]
    assert objects["classes"] == ["coin", "key", "stamp"] and objects["objects_most"] == 4
    assert known["inputs"]["least_score"] == {"dtype": "DT_FLOAT", "shape": None}
    assert known["outputs"]["object_descriptors"] == {"dtype": "DT_FLOAT", "shape": [-1, 4, 16]}


@pytest.fixture
def answering():
    """Serves one answer, given as arrays by output; yields the address."""
    servers = []

    def start(outputs):
        class Answer(prediction_service_pb2_grpc.PredictionServiceServicer):
            def Predict(self, request, context):  # noqa: N802
                response = predict_pb2.PredictResponse()
                for name, value in outputs.items():
                    response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
                return response

        server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Answer(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        server.stop(0).wait()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"count": np.array([1], np.int32)}, r"count is int32 \(1,\); int32 \(2,\) is wanted"),
        ({"boxes": np.full((2, 3, 4), np.inf, np.float32)}, "boxes is not finite"),
        ({"scores": None}, "there are no scores"),
        ({}, "there are 2 rows for 1 photos"),
    ],
)
def test_an_answer_that_does_not_hold_is_an_internal_error(answering, changed, told):
    outputs = {
        "descriptors": np.zeros((2, 5), np.float32),
        "object_descriptors": np.zeros((2, 3, 5), np.float32),
        "boxes": np.zeros((2, 3, 4), np.float32),
        "scores": np.zeros((2, 3), np.float32),
        "classes": np.zeros((2, 3), np.int32),
        "class_names": np.full((2, 3), b"", object),
        "count": np.zeros(2, np.int32),
    }
    outputs = {name: value for name, value in {**outputs, **changed}.items() if value is not None}
    with DescriptorClient(answering(outputs)) as client, pytest.raises(ServingError, match=told) as caught:
        list(client.describe_objects([b"a photo"]))
    assert caught.value.code == grpc.StatusCode.INTERNAL
