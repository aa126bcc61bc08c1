import concurrent.futures
import itertools
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf

from export.client import DescriptorClient, Retries, ServingError, split_batches
from export.server import LocalServer

QUICK = Retries(attempts=4, first_wait=0.01, longest_wait=0.02, seed=0)


# With both servers.


def test_descriptors_are_those_of_the_saved_model(client_of, endpoint, photos, expected):
    with client_of(endpoint.grpc_address, max_batch_photos=2) as client:
        descriptors = client.describe(iter(photos))
        assert descriptors.dtype == np.float32
        np.testing.assert_allclose(descriptors, expected, atol=1e-6)
        assert [len(batch) for batch in client.describe_batches(photos)] == [2, 2, 1]


def test_no_photos_have_no_descriptors_of_the_models_width(client_of, endpoint):
    with client_of(endpoint.grpc_address) as client:
        assert client.describe([]).shape == (0, 4)


def test_status_and_metadata(client_of, endpoint):
    with client_of(endpoint.grpc_address) as client:
        assert client.status() == {1: "AVAILABLE"}
        metadata = client.metadata()
    assert metadata["version"] == 1
    assert metadata["signatures"]["serving_default"] == {
        "inputs": {"image_bytes": {"dtype": "DT_STRING", "shape": [-1]}},
        "outputs": {"descriptors": {"dtype": "DT_FLOAT", "shape": [-1, 4]}},
    }


def test_a_models_card(client_of, endpoint, pair_endpoint):
    with client_of(pair_endpoint.grpc_address, "pair") as client:
        assert client.card() == {"dimension": 4}
    with client_of(endpoint.grpc_address) as client:
        assert client.card() == {}


def test_unknown_models_versions_and_signatures(client_of, endpoint, photos):
    for options, code in [
        ({"model_name": "other"}, "NOT_FOUND"),
        ({"version": 7}, "NOT_FOUND"),
        ({"signature_name": "nope"}, "FAILED_PRECONDITION"),
        ({"output_name": "nope"}, "INVALID_ARGUMENT"),
    ]:
        with client_of(endpoint.grpc_address, **options) as client, pytest.raises(ServingError) as caught:
            client.describe(photos)
        assert caught.value.code == grpc.StatusCode[code]
        assert "\n" not in str(caught.value)


def test_a_refused_photo_is_named_by_its_place_among_all(client_of, endpoint, photos):
    batch = [*photos, b"not an image", photos[0], b""]
    with client_of(endpoint.grpc_address, max_batch_photos=4) as client, pytest.raises(ServingError) as caught:
        client.describe(batch)
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT
    if endpoint.is_local:
        assert caught.value.photos == (5, 7)
        assert "image_bytes[5]: Unknown image file format" in caught.value.message
    else:
        assert caught.value.message.startswith("among photos 4 to 7: ")


# With a scripted server.


def test_batches_keep_to_bytes_and_photos_and_order(client_of, serve):
    script = serve()
    photos = [b"a" * size for size in (4, 4, 3, 20, 1, 1, 1, 1)]
    with client_of(script.address, max_batch_bytes=10, max_batch_photos=3, in_flight=1) as client:
        descriptors = client.describe(photos)
    assert [[len(photo) for photo in batch] for batch in script.batches] == [[4, 4], [3], [20], [1, 1, 1], [1]]
    assert descriptors[:, 0].tolist() == [len(photo) for photo in photos]


def test_photos_are_read_only_as_they_are_needed(client_of, serve):
    taken = []

    def photos():
        for place in itertools.count():
            taken.append(place)
            yield b"x"

    with client_of(serve().address, max_batch_photos=2, in_flight=3) as client:
        batches = client.describe_batches(photos())
        for given in range(1, 5):
            next(batches)
            assert len(taken) == 2 * (given - 1 + 3) + 1  # three batches under way, and the photo that ends the third
        batches.close()


@pytest.mark.parametrize("failures", [0, 1, 2, 3])
def test_unavailable_is_tried_again(client_of, serve, failures):
    script = serve(failures=[(grpc.StatusCode.UNAVAILABLE, "not yet")] * failures)
    with client_of(script.address, retries=QUICK) as client:
        assert client.describe([b"x"]).tolist() == [[1, 0]]
    assert len(script.batches) == failures + 1


def test_unavailable_ends_after_the_last_attempt(client_of, serve):
    script = serve(failures=[(grpc.StatusCode.UNAVAILABLE, "not yet")] * 9)
    with client_of(script.address, retries=QUICK) as client, pytest.raises(ServingError) as caught:
        client.describe([b"x"])
    assert str(caught.value) == f"UNAVAILABLE: not yet ({script.address})"
    assert len(script.batches) == QUICK.attempts


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "INTERNAL", "NOT_FOUND"])
def test_other_statuses_are_not_tried_again(client_of, serve, code):
    script = serve(failures=[(grpc.StatusCode[code], "no\n\t [[{{node x}}]]")])
    with client_of(script.address, retries=QUICK) as client, pytest.raises(ServingError, match=f"{code}: .*no"):
        client.describe([b"x"])
    assert len(script.batches) == 1


def test_the_deadline_ends_a_slow_batch(client_of, serve):
    with client_of(serve(wait=0.5).address, timeout=0.1) as client, pytest.raises(ServingError) as caught:
        client.describe([b"x"])
    assert caught.value.code == grpc.StatusCode.DEADLINE_EXCEEDED


def test_retries_end_within_the_timeout():
    patient = Retries(attempts=1000, first_wait=0.05, longest_wait=0.05)
    start = time.monotonic()
    client = DescriptorClient("127.0.0.1:9", timeout=0.4, retries=patient)
    with client, pytest.raises(ServingError) as caught:
        client.describe([b"x"])
    assert caught.value.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    assert time.monotonic() - start < 2


def test_waits_double_with_a_seeded_jitter():
    retries = Retries(attempts=6, first_wait=1, longest_wait=4)
    waits = list(retries.waits(np.random.default_rng(3)))
    assert waits == list(retries.waits(np.random.default_rng(3)))
    assert waits != list(retries.waits(np.random.default_rng(4)))
    for wait, nominal in zip(waits, [1, 2, 4, 4, 4], strict=True):
        assert 0.5 * nominal <= wait <= 1.5 * nominal


def test_a_refusal_without_a_row_names_the_batch(client_of, serve):
    script = serve(failures=[None, (grpc.StatusCode.INVALID_ARGUMENT, "Unknown format\n\t [[{{node x}}]]")])
    with client_of(script.address, max_batch_photos=2, in_flight=1) as client, pytest.raises(ServingError) as caught:
        client.describe([b"x"] * 5)
    assert caught.value.message.startswith("among photos 2 to 3: Unknown format")
    assert caught.value.photos == ()


def test_a_models_own_assertion_is_renumbered(client_of, serve):
    frame = "assertion failed: [image_bytes[1]: not an image]\n\t [[{{node x}}]]"
    script = serve(failures=[None, (grpc.StatusCode.INVALID_ARGUMENT, frame)])
    with client_of(script.address, max_batch_photos=2, in_flight=1) as client, pytest.raises(ServingError) as caught:
        client.describe([b"x"] * 5)
    assert caught.value.message.startswith("image_bytes[3]: not an image (")
    assert caught.value.photos == (3,)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (np.zeros((1, 3), np.float32), r"DT_FLOAT \[1, 3\]; wanted DT_FLOAT \[2, D\]"),
        (np.zeros(2, np.float32), r"DT_FLOAT \[2\]"),
        (np.zeros((2, 3), np.float64), r"DT_DOUBLE \[2, 3\]"),
        (np.array([[1, 2], [np.nan, 0]], np.float32), "descriptor of photo 1 is not finite"),
        (np.array([[np.inf, 2], [1, 0]], np.float32), "descriptor of photo 0 is not finite"),
    ],
)
def test_answers_that_are_not_descriptors_are_refused(client_of, serve, answer, told):
    with client_of(serve(answer=answer).address) as client, pytest.raises(ServingError, match=told) as caught:
        client.describe([b"x", b"y"])
    assert caught.value.code == grpc.StatusCode.INTERNAL


def test_a_width_that_changes_between_batches_is_refused(client_of, serve):
    script = serve(answer=np.ones((1, 3), np.float32))
    with client_of(script.address, max_batch_photos=1, in_flight=1) as client:
        batches = client.describe_batches([b"x", b"y"])
        next(batches)
        script.answer = np.ones((1, 5), np.float32)
        with pytest.raises(ServingError, match="5 dimensions from photo 1 on and 3 before"):
            next(batches)


@pytest.mark.parametrize("content", [True, False])
def test_both_forms_of_a_tensor_are_read(client_of, serve, content):
    tensor = tf.make_tensor_proto(np.array([[1, 2, 3]], np.float32))
    assert tensor.tensor_content
    if not content:
        tensor.ClearField("tensor_content")
        tensor.float_val.extend([1, 2, 3])
    with client_of(serve(answer=tensor).address) as client:
        assert client.describe([b"x"]).tolist() == [[1, 2, 3]]


def test_only_bytes_are_photos():
    with pytest.raises(TypeError, match="photo 1 is a str"):
        list(split_batches([b"x", "y"], 10, 10))


def test_threads_share_a_client(serve):
    script = serve()
    with DescriptorClient(script.address, max_batch_photos=2) as client:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            found = pool.map(lambda size: client.describe([b"x" * size] * 5)[:, 0].tolist(), range(1, 17))
        assert list(found) == [[size] * 5 for size in range(1, 17)]


def test_a_restarted_server_is_found_again(photo_base, photos):
    with LocalServer("descriptor", photo_base) as server:
        address = server.grpc_address
        client = DescriptorClient(address)
        before = client.describe(photos[:1])
    with LocalServer("descriptor", photo_base, int(address.rsplit(":", 1)[1])):
        np.testing.assert_array_equal(client.describe(photos[:1]), before)
    client.close()
