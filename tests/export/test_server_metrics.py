import math
import re
import threading
import urllib.error
import urllib.request

import pytest

from export.server import LocalServer
from export.server.metrics import LATENCY_BUCKETS, Counter, Histogram, Metrics, exponential
from tfretrieval.errors import InputError

PATH = "/monitoring/prometheus/metrics"
LINE = re.compile(r'[a-zA-Z_:][a-zA-Z0-9_:]*\{(?:[a-zA-Z_]+="(?:[^"\\]|\\.)*"(?:,(?!\}))?)*\} [0-9.e+]+')


def page_of(server, path=PATH):
    with urllib.request.urlopen(server.rest_url + path) as response:
        assert response.headers["Content-Type"].startswith("text/plain")
        return response.read().decode()


@pytest.fixture
def monitoring(tmp_path):
    """Writes a monitoring file and gives its path."""

    def write(text="prometheus_config { enable: true }"):
        (tmp_path / "monitoring.config").write_text(text)
        return str(tmp_path / "monitoring.config")

    return write


def test_a_server_counts_by_the_real_servers_names(photo_base, monitoring, make_endpoint, photos, request_of, refusal):
    with LocalServer("descriptor", photo_base, monitoring_config_file=monitoring()) as server:
        endpoint = make_endpoint(server)
        for _ in range(3):
            endpoint.predictions.Predict(request_of(image_bytes=photos[:1]))
        refusal(endpoint.predictions.Predict, request_of(image_bytes=[b"x"]))
        for name in ("a", "b"):
            refusal(endpoint.predictions.Predict, request_of(name, image_bytes=[b"x"]))
        url = server.rest_url + "/v1/models/descriptor:predict"
        urllib.request.urlopen(url, b'{"inputs": []}').read()
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(url, b"{")
        page = page_of(server)
    for line in page.splitlines():
        assert line.startswith("# TYPE :tensorflow:") or LINE.fullmatch(line), line
    path = photo_base / "1"
    told = [
        ':tensorflow:serving:request_count{model_name="descriptor",status="OK"} 4',
        ':tensorflow:serving:request_count{model_name="descriptor",status="INVALID_ARGUMENT"} 2',
        ':tensorflow:serving:request_count{model_name="",status="NOT_FOUND"} 2',
        ':tensorflow:serving:request_latency_count{model_name="descriptor",API="Predict",entrypoint="GRPC"} 4',
        ':tensorflow:serving:request_latency_count{model_name="descriptor",API="predict",entrypoint="REST"} 2',
        ':tensorflow:serving:runtime_latency_count{model_name="descriptor",API="Predict",runtime="TF1"} 4',
        f':tensorflow:cc:saved_model:load_attempt_count{{model_path="{path}",status="success"}} 1',
    ]
    for line in told:
        assert line in page.splitlines()
    latency = re.search(rf':tensorflow:cc:saved_model:load_latency\{{model_path="{path}"\}} (\d+)', page)
    assert 100 < int(latency[1]) < 60e6
    assert "# TYPE :tensorflow:serving:request_latency histogram" in page
    assert ',le="+Inf"} 4' in page


def test_the_page_is_there_where_it_was_asked_for(photo_base, monitoring):
    for text, path, status in (
        ("prometheus_config { enable: true path: '/here' }", "/here", 200),
        ("prometheus_config { enable: true path: '/here' }", PATH, 404),
        ("prometheus_config { enable: false }", PATH, 404),
        ("", PATH, 404),
    ):
        with LocalServer("descriptor", photo_base, monitoring_config_file=monitoring(text)) as server:
            if status == 200:
                assert "request_count" in page_of(server, path)
            else:
                with pytest.raises(urllib.error.HTTPError) as caught:
                    page_of(server, path)
                assert caught.value.code == status
    with LocalServer("descriptor", photo_base) as server, pytest.raises(urllib.error.HTTPError):
        page_of(server)


@pytest.mark.parametrize("path", ["here", "/v1/models/descriptor"])
def test_bad_monitoring_paths_are_refused(photo_base, monitoring, path):
    file = monitoring(f"prometheus_config {{ enable: true path: '{path}' }}")
    with pytest.raises(InputError, match=f"--monitoring_config_file=.*path is '{path}'"):
        LocalServer("descriptor", photo_base, monitoring_config_file=file).start()


def test_buckets_grow_exponentially():
    assert exponential(1, 2, 3) == (1, 2, 4, math.inf)
    assert len(LATENCY_BUCKETS) == 34
    assert LATENCY_BUCKETS[32] == pytest.approx(10 * 1.8**32)


def test_a_histogram_adds_up():
    histogram = Histogram("h", ("a",), (1, 2, 4, math.inf))
    for value in (0.5, 1, 3, 3.5, 100):
        histogram.add("x", value=value)
    assert histogram.lines() == [
        "# TYPE h histogram",
        'h_bucket{a="x",le="1"} 1',
        'h_bucket{a="x",le="2"} 2',
        'h_bucket{a="x",le="4"} 4',
        'h_bucket{a="x",le="+Inf"} 5',
        'h_sum{a="x"} 108',
        'h_count{a="x"} 5',
    ]


def test_label_values_are_escaped():
    counter = Counter("c", ("a",))
    counter.add('back\\slash "quoted"\nline')
    assert counter.lines()[1] == 'c{a="back\\\\slash \\"quoted\\"\\nline"} 1'


def test_counts_of_many_threads_are_not_lost():
    metrics = Metrics()

    def count():
        for _ in range(2000):
            metrics.request_count.add("m", "OK")
            metrics.request_latency.add("m", "Predict", "GRPC", value=1)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 'request_count{model_name="m",status="OK"} 8000' in metrics.page()
    assert 'request_latency_count{model_name="m",API="Predict",entrypoint="GRPC"} 8000' in metrics.page()
