import pytest
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, prediction_log_pb2

from export.server import LocalServer
from export.server.metrics import Metrics
from export.server.model import Loading, Model
from export.server.model_config import ModelSettings
from export.server.warmup import MAX_RECORDS, WARMUP_FILE
from tfretrieval.errors import InputError


@pytest.fixture
def record(own_base):
    """Writes warm-up records, requests or bytes, for version 1."""

    def write(*requests, version="1"):
        path = own_base / version / WARMUP_FILE
        path.parent.mkdir(exist_ok=True)
        with tf.io.TFRecordWriter(str(path)) as writer:
            for request in requests:
                if not isinstance(request, bytes):
                    log = prediction_log_pb2.PredictLog(request=request)
                    request = prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString()
                writer.write(request)
        return path

    return write


def load(base, iterations=1):
    """Returns whether version 1 loads, why not, and the page of metrics."""
    metrics = Metrics()
    model = Model(ModelSettings("m", base), Loading(warmup_iterations=iterations, metrics=metrics))
    model.refresh()
    status = model.statuses()[1]
    found = model.versions == [1], status.status.error_message, metrics.page()
    model.close(5)
    return found


def test_records_are_answered_before_the_version_is_available(own_base, record, photos, request_of):
    record(request_of(image_bytes=photos), request_of("other name", image_bytes=photos[:1]))
    loaded, _, page = load(own_base, 3)
    assert loaded
    assert 'runtime_latency_count{model_name="m",API="Predict",runtime="TF1"} 6' in page
    assert f'model_warmup_latency_count{{model_path="{own_base / "1"}",status="OK"}} 1' in page
    loaded, _, page = load(own_base, 0)
    assert loaded
    assert "runtime_latency_count" not in page


def test_records_of_other_apis_are_skipped(own_base, record, photos, request_of):
    log = prediction_log_pb2.ClassifyLog(request=classification_pb2.ClassificationRequest())
    record(prediction_log_pb2.PredictionLog(classify_log=log).SerializeToString(), request_of(image_bytes=photos))
    loaded, _, page = load(own_base)
    assert loaded
    assert 'runtime_latency_count{model_name="m",API="Predict",runtime="TF1"} 1' in page


def test_bad_records_keep_a_version_from_loading(own_base, record, photos, request_of):
    good = request_of(image_bytes=photos[:1])
    for requests, told in [
        ([request_of(image_bytes=[b"no image"])], "Unknown image file format"),
        ([request_of(signature="nope")], 'Serving signature key "nope" not found.'),
        ([b"\xff\xff\xff"], "Failed to parse warmup record"),
        ([good] * (MAX_RECORDS + 1), "Number of warmup records exceeds the maximum (1000)"),
    ]:
        record(*requests)
        loaded, reason, page = load(own_base)
        assert not loaded
        assert told in reason
        assert 'load_attempt_count{model_path="' in page
        assert 'status="fail"} 1' in page


def test_a_damaged_file_keeps_a_version_from_loading(own_base, record, photos, request_of):
    path = record(request_of(image_bytes=photos))
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    path.write_bytes(content)
    loaded, reason, page = load(own_base)
    assert not loaded
    assert "verify your warmup data is in TFRecord format" in reason
    assert 'status="DATA_LOSS"} 1' in page


def test_the_flag_turns_it_off(own_base, record):
    record(b"\xff\xff\xff")
    with pytest.raises(InputError, match="Failed to parse warmup record"):
        LocalServer("descriptor", own_base).start()
    with LocalServer("descriptor", own_base, enable_model_warmup=False) as server:
        assert server.version == 1
