import threading
import time
import urllib.request
from concurrent import futures

import grpc
import numpy as np
import pytest
import tensorflow as tf

from export.server import LocalServer
from export.server.batching import Batching, _cut
from export.server.batching_settings import BatchingSettings, read_batching_parameters
from export.server.call import Call
from export.server.errors import StatusError, invalid
from export.server.metrics import Metrics
from export.server.servable import Servable
from tfretrieval.errors import InputError


class RowModel(tf.Module):
    """x float32 [N, M] -> y [N], the sums, and how many rows and columns the batch has; names negative rows."""

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32), tf.TensorSpec([], tf.float32)])
    def rows(self, x, factor):
        bad = tf.where(tf.reduce_any(x < 0, axis=1))[:, 0]
        told = tf.strings.format("x[{}]: is negative", tf.concat([bad, [-1]], 0)[0])
        with tf.control_dependencies([tf.debugging.Assert(tf.equal(tf.size(bad), 0), [told])]):
            shape = tf.shape(x)
            return {
                "y": factor * tf.reduce_sum(x, axis=1),
                "rows": tf.fill([shape[0]], shape[0]),
                "columns": tf.fill([shape[0]], shape[1]),
            }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def total(self, x):
        return {"y": tf.reduce_sum(x, keepdims=True)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def words(self, x):
        return {"y": tf.strings.join([x, "!"])}


@pytest.fixture(scope="module")
def row_base(tmp_path_factory):
    base = tmp_path_factory.mktemp("rows")
    model = RowModel()
    signatures = {"serving_default": model.rows, "total": model.total, "words": model.words}
    tf.saved_model.save(model, str(base / "1"), signatures=signatures)
    return base


@pytest.fixture
def load(row_base):
    """Loads the model with batching parameters; calls `run(x, ...)` of many threads at once."""
    loaded = []

    def make(**settings):
        metrics = Metrics()
        settings = {"num_batch_threads": 1, "batch_timeout_micros": 200_000, **settings}
        servable = Servable(row_base / "1", 1, batching=BatchingSettings(**settings), metrics=metrics)
        loaded.append(servable)
        return servable.batching, metrics

    yield make
    for servable in loaded:
        servable.close()


def at_once(*calls):
    """Makes calls in a thread each, in the order given; returns their results or the errors they raised."""

    def outcome(call):
        try:
            return call()
        except StatusError as error:
            return error

    with futures.ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(outcome, call) for call in calls]]


def ask(batching, x, factor=1.0, aliases=("y", "rows", "columns"), call=None):
    inputs = {"x": np.asarray(x, np.float32), "factor": np.asarray(factor, np.float32)}
    assert batching.takes("serving_default", inputs)
    return lambda: batching.run("serving_default", list(aliases), inputs, call or Call())


# Batches form, and hold what they should.


def test_requests_are_put_together(load):
    batching, metrics = load(max_batch_size=8)
    xs = [np.full((rows, 2), rows, np.float32) for rows in (1, 2, 3, 2)]
    for x, (y, rows, columns) in zip(xs, at_once(*(ask(batching, x) for x in xs)), strict=True):
        np.testing.assert_array_equal(y, x.sum(axis=1))
        assert rows.tolist() == [8] * len(x)
        assert columns.tolist() == [2] * len(x)
    page = metrics.page()
    assert ':batching_session:processed_batch_size_sum{thread_pool_name="model_server_batch_threads"} 8' in page
    assert ':batching_session:input_batch_size_count{thread_pool_name="model_server_batch_threads"} 4' in page
    assert ":batching_session:wrapped_run_count{} 1" in page


def test_a_request_larger_than_a_batch_is_cut_and_joined(load):
    batching, metrics = load(max_batch_size=4)
    x = np.arange(22, dtype=np.float32).reshape(11, 2)
    y, rows = batching.run("serving_default", ["y", "rows"], {"x": x, "factor": np.float32(1)}, Call())
    np.testing.assert_array_equal(y, x.sum(axis=1))
    assert rows.tolist() == [4] * 8 + [3] * 3
    assert ":wrapped_run_count{} 3" in metrics.page()


def test_batches_are_filled_up_to_allowed_sizes(load):
    batching, metrics = load(max_batch_size=16, allowed_batch_sizes=(4, 16))
    ((y, rows, _),) = at_once(ask(batching, [[1, 2], [3, 4], [5, 6]]))
    assert y.tolist() == [3, 7, 11]
    assert rows.tolist() == [4, 4, 4]
    assert (
        'padding_size_sum{execution_batch_size="4",thread_pool_name="model_server_batch_threads"} 1' in metrics.page()
    )


def test_unequal_shapes_and_scalars_run_apart(load):
    batching, _ = load(max_batch_size=5)
    calls = [
        ask(batching, [[1, 2]]),
        ask(batching, [[1, 2, 3]]),
        ask(batching, [[4, 5]]),
        ask(batching, [[4, 5]], 10.0),
        ask(batching, [[7]]),
    ]
    found = [(y[0], rows[0], columns[0]) for y, rows, columns in at_once(*calls)]
    assert found == [(3, 2, 2), (6, 1, 3), (9, 2, 2), (90, 1, 2), (7, 1, 1)]


def test_unequal_shapes_share_a_batch_when_padded(load):
    batching, _ = load(max_batch_size=3, pad_variable_length_inputs=True)
    found = at_once(ask(batching, [[1, 2]]), ask(batching, [[1, 2, 3]]), ask(batching, [[7]]))
    assert [(y[0], rows[0], columns[0]) for y, rows, columns in found] == [(3, 3, 3), (6, 3, 3), (7, 3, 3)]


def test_requests_for_different_outputs_share_a_batch(load):
    batching, metrics = load(max_batch_size=2)
    first, second = at_once(ask(batching, [[1, 2]], aliases=["y"]), ask(batching, [[3, 4]], aliases=["rows", "y"]))
    assert [value.tolist() for value in first] == [[3]]
    assert [value.tolist() for value in second] == [[2], [7]]
    assert ":wrapped_run_count{} 1" in metrics.page()


def test_strings_go_through(load):
    batching, _ = load(max_batch_size=3)
    words = [[b"a", b"\x00\xff"], [b""]]
    calls = [lambda w=w: batching.run("words", ["y"], {"x": np.array(w, object)}, Call()) for w in words]
    assert [y.tolist() for (y,) in at_once(*calls)] == [[b"a!", b"\x00\xff!"], [b"!"]]


def test_signatures_without_rows_are_not_batched(load, pair_base):
    assert not load()[0].takes("total", {"x": np.zeros(2, np.float32)}), "its output has one row, whatever the input's"
    servable = Servable(pair_base / "1", 1, batching=BatchingSettings(num_batch_threads=1))
    try:
        assert servable.batching.takes("named", {"x": np.zeros(2, np.float32)})
        assert not servable.batching.takes("named", {"x": np.zeros(0, np.float32)})
        assert not servable.batching.takes("slow", {"steps": np.int32(1)})
        assert not servable.batching.takes("card", {})
        unequal = {"values": np.zeros((2, 2), np.float32), "ids": np.zeros(3, np.int64)}
        assert not servable.batching.takes("serving_default", unequal)
    finally:
        servable.close()


def test_rows_are_cut_at_each_request_and_gap():
    rows = np.array([[5, 0], [5, 1], [7, 3], [7, 4], [7, 9], [2, 0]])
    assert list(_cut(rows)) == [(5, 0, 2), (7, 3, 5), (7, 9, 10), (2, 0, 1)]
    assert list(_cut(rows[:1])) == [(5, 0, 1)]


# What one request does to its neighbours: nothing.


def test_a_refused_request_leaves_its_neighbours(load):
    batching, _ = load(max_batch_size=5)
    calls = [
        ask(batching, [[1, 2]]),
        ask(batching, [[1, 1], [-1, 1]]),
        ask(batching, [[3, 4]]),
        ask(batching, [[5, 6]]),
    ]
    first, refused, third, fourth = at_once(*calls)
    assert refused is None, "it has to be run alone, to learn why"
    assert [found[0].tolist() for found in (first, third, fourth)] == [[3], [7], [11]]


def test_a_refused_row_is_named_in_its_own_request(row_base, make_endpoint, request_of, refusal, tmp_path):
    (tmp_path / "batching").write_text("max_batch_size { value: 6 } batch_timeout_micros { value: 200000 }")
    options = {"enable_batching": True, "batching_parameters_file": str(tmp_path / "batching")}
    with LocalServer("rows", row_base, **options) as server, futures.ThreadPoolExecutor(3) as pool:
        endpoint = make_endpoint(server)
        requests = [
            request_of("rows", x=np.full((2, 2), sign, np.float32), factor=np.float32(1)) for sign in (1, -1, 2)
        ]
        requests[1].inputs["x"].CopyFrom(tf.make_tensor_proto(np.array([[1, 1], [1, -1]], np.float32)))
        good = [pool.submit(endpoint.predictions.Predict, requests[place], timeout=20) for place in (0, 2)]
        assert refusal(endpoint.predictions.Predict, requests[1]) == ("INVALID_ARGUMENT", "x[1]: is negative")
        answers = [future.result().outputs for future in good]
        assert [tf.make_ndarray(outputs["y"]).tolist() for outputs in answers] == [[2, 2], [4, 4]]


@pytest.fixture
def batching_of():
    """Makes a `Batching` of the signature `serving_default` (x float32 [N] -> y [N]) over a Python function."""
    made = []

    def make(run, **settings):
        info = tf.compat.v1.saved_model.build_tensor_info(tf.compat.v1.placeholder(tf.float32, [None]))
        signature = tf.compat.v1.saved_model.build_signature_def({"x": info}, {"y": info})
        settings = BatchingSettings(**{"num_batch_threads": 1, **settings})
        made.append(Batching({"serving_default": signature}, run, settings, Metrics()))
        return made[-1]

    with tf.Graph().as_default():
        yield make
    for batching in made:
        batching.close()


def test_the_refused_are_found_by_halving(batching_of):
    runs = []

    def run(signature, aliases, inputs, timeout):
        runs.append(len(inputs["x"]))
        if (inputs["x"] < 0).any():
            raise invalid("negative")
        return [2 * inputs["x"]]

    batching = batching_of(run, max_batch_size=8, batch_timeout_micros=200_000)
    one = lambda value: lambda: batching.run("serving_default", ["y"], {"x": np.float32([value])}, Call())  # noqa: E731
    found = at_once(*(one(value) for value in (1, 2, 3, -4, 5, 6, 7, 8)))
    assert [None if each is None else each[0].tolist() for each in found] == [
        [2], [4], [6], None, [10], [12], [14], [16],
    ]  # fmt: skip
    assert sorted(runs, reverse=True) == [8, 4, 4, 2, 2, 1, 1]


def test_outputs_without_the_batchs_rows_are_not_given_out(batching_of):
    batching = batching_of(lambda signature, aliases, inputs, timeout: [np.ones(7, np.float32)], max_batch_size=2)
    assert batching.run("serving_default", ["y"], {"x": np.ones(1, np.float32)}, Call()) is None


def test_whoever_left_is_not_run(batching_of):
    seen, go = [], threading.Event()

    def run(signature, aliases, inputs, timeout):
        go.wait(10)
        seen.extend(inputs["x"].tolist())
        return [inputs["x"]]

    batching = batching_of(run, max_batch_size=1)
    gone = threading.Event()
    calls = [Call(), Call(is_wanted=lambda: not gone.is_set()), Call.within(0.2), Call()]
    with futures.ThreadPoolExecutor(4) as pool:
        waiting = []
        for value, call in enumerate(calls):
            waiting.append(pool.submit(batching.run, "serving_default", ["y"], {"x": np.float32([value])}, call))
            time.sleep(0.1)
        gone.set()
        time.sleep(0.1)
        go.set()
        assert [waiting[place].result()[0].tolist() for place in (0, 3)] == [[0], [3]]
        codes = [waiting[place].exception().code for place in (1, 2)]
    assert codes == [grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED]
    assert seen == [0, 3]


def test_a_full_queue_is_unavailable(batching_of):
    running, go = threading.Event(), threading.Event()

    def run(signature, aliases, inputs, timeout):
        running.set()
        go.wait(10)
        return [inputs["x"]]

    batching = batching_of(run, max_batch_size=1, max_enqueued_batches=2)
    with futures.ThreadPoolExecutor(8) as pool:
        ask = lambda: batching.run("serving_default", ["y"], {"x": np.zeros(1, np.float32)}, Call())  # noqa: E731
        waiting = [pool.submit(ask)]
        running.wait(10)
        waiting += [pool.submit(ask) for _ in range(7)]
        ended = futures.as_completed(waiting, timeout=20)
        errors = [next(ended).exception() for _ in range(5)]  # one runs, two wait
        go.set()
        assert [future.exception() for future in ended] == [None] * 3
    assert {error.code for error in errors} == {grpc.StatusCode.UNAVAILABLE}
    assert "full" in errors[0].message
    assert batching._tasks == {}


def test_an_unexpected_error_reaches_everyone_who_waits(batching_of):
    def run(signature, aliases, inputs, timeout):
        raise RuntimeError("no memory")

    batching = batching_of(run, max_batch_size=2, batch_timeout_micros=200_000)
    calls = [lambda: batching.run("serving_default", ["y"], {"x": np.zeros(1, np.float32)}, Call())] * 2
    for error in at_once(*calls):
        assert error.code == grpc.StatusCode.INTERNAL
        assert "no memory" in error.message


def test_the_longest_deadline_bounds_a_batch(batching_of):
    timeouts = []

    def run(signature, aliases, inputs, timeout):
        timeouts.append(timeout)
        return [inputs["x"]]

    batching = batching_of(run, max_batch_size=2, batch_timeout_micros=500_000)
    for seconds in ((5, 60), (5, None)):
        at_once(
            *(
                lambda s=s: batching.run("serving_default", ["y"], {"x": np.zeros(1, np.float32)}, Call.within(s))
                for s in seconds
            )
        )
    assert 50 < timeouts[0] < 60
    assert timeouts[1] is None


# Photos through a server, and the parameter file.


def test_descriptors_do_not_depend_on_their_neighbours(
    photo_base, photos, expected, make_endpoint, request_of, tmp_path
):
    (tmp_path / "batching").write_text(
        "max_batch_size { value: 8 } batch_timeout_micros { value: 20000 } num_batch_threads { value: 2 }\n"
        "max_enqueued_batches { value: 100 } allowed_batch_sizes: [4, 8] thread_pool_name { value: 'pool' }"
    )
    (tmp_path / "monitoring").write_text("prometheus_config { enable: true }")
    options = {
        "enable_batching": True,
        "batching_parameters_file": str(tmp_path / "batching"),
        "monitoring_config_file": str(tmp_path / "monitoring"),
    }
    random = np.random.default_rng(1)
    batches = [random.integers(0, len(photos), random.integers(1, 6)) for _ in range(60)]
    with LocalServer("descriptor", photo_base, **options) as server, futures.ThreadPoolExecutor(12) as pool:
        predictions = make_endpoint(server).predictions

        def describe(rows):
            request = request_of(image_bytes=[photos[row] for row in rows])
            return tf.make_ndarray(predictions.Predict(request, timeout=30).outputs["descriptors"])

        for rows, found in zip(batches, pool.map(describe, batches), strict=True):
            np.testing.assert_allclose(found, expected[rows], atol=1e-6)
        page = urllib.request.urlopen(server.rest_url + "/monitoring/prometheus/metrics").read().decode()
    (runs,) = [int(line.split()[-1]) for line in page.splitlines() if "wrapped_run_count{" in line]
    assert runs < len(batches), "batches form"
    assert 'padding_size_count{execution_batch_size="8",thread_pool_name="pool"}' in page


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("max_batch_size { value: 0 }", "max_batch_size is 0"),
        ("num_batch_threads { value: -1 }", "num_batch_threads is -1"),
        ("num_batch_threads { value: 2000000000 }", "from 1 to 1024 is wanted"),
        ("max_batch_size { value: 2000000000 }", "max_batch_size is 2000000000"),
        ("batch_timeout_micros { value: -5 }", "batch_timeout_micros is -5"),
        ("max_enqueued_batches { value: 99999999999 }", "max_enqueued_batches is 99999999999"),
        ("max_batch_size { value: 8 } allowed_batch_sizes: [2, 4]", "the last one max_batch_size, 8"),
        ("max_batch_size { value: 8 } allowed_batch_sizes: [4, 2, 8]", "rising numbers are wanted"),
        ("max_batch: 8", "cannot be read as a BatchingParameters"),
    ],
)
def test_bad_parameters_are_refused(tmp_path, text, told):
    (tmp_path / "file").write_text(text)
    with pytest.raises(InputError, match=r"^--batching_parameters_file=.*file") as caught:
        read_batching_parameters(tmp_path / "file")
    assert told in str(caught.value)


def test_parameters_that_are_left_out_keep_their_defaults(tmp_path):
    (tmp_path / "file").write_text("")
    assert read_batching_parameters(tmp_path / "file") == BatchingSettings()
    (tmp_path / "file").write_text(
        "max_batch_size { value: 64 } max_execution_batch_size { value: 8 }\n"
        "enable_large_batch_splitting { value: true } allowed_batch_sizes: 8 pad_variable_length_inputs: true"
    )
    found = read_batching_parameters(tmp_path / "file")
    assert (found.max_batch_size, found.allowed_batch_sizes, found.pad_variable_length_inputs) == (8, (8,), True)


def test_parameters_without_batching_are_refused(photo_base):
    with pytest.raises(InputError, match="without --enable_batching"):
        LocalServer("m", photo_base, batching_parameters_file="x")
