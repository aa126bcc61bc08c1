import contextlib
import json
import time

import numpy as np
import pytest
from tensorflow_serving.apis import predict_pb2

from benchmarks.served.load_client import ANSWERED, SENT, LoadClient
from benchmarks.served.load_clients import Notes, write_requests
from benchmarks.served.server_load import LoadSettings, Versions, known_descriptors, load
from benchmarks.served.tiny_network import tiny_network, write_tiny_version
from export.example_photos import example_photos
from tfretrieval.errors import InputError

SIDE = 48


def line(second, *told):
    return [float(second), *told]


def answered(second, status="OK", milliseconds=10.0, version=1, count=1, fault="", told=""):
    return line(second, ANSWERED, status, milliseconds, version, count, fault, told)


def test_notes_of_clients_add_up():
    living = [line(0, SENT), line(1, SENT), answered(2, milliseconds=5.0), answered(3, version=2, count=4)]
    refused = [line(1, SENT), answered(2, "RESOURCE_EXHAUSTED", told="Too many"), line(3, SENT)]
    killed = [line(2, SENT), line(3, SENT), line(4, SENT), answered(5, fault="cosine 0.5")]
    found = Notes.of([(living, False), (refused, False), (killed, True)])
    assert (found.sent, found.photos, found.seconds, found.longest_silence) == (7, 6, 5.0, 1.0)
    assert found.statuses == {"OK": 3, "RESOURCE_EXHAUSTED: Too many": 1}
    assert found.versions == {1: 2, 2: 1}
    assert (found.unanswered, found.killed, found.unanswered_of_killed) == (1, 1, 2)
    assert (found.wrong, found.wrong_count, found.lost) == (["cosine 0.5"], 1, {})
    assert found.milliseconds_at(0.0, 1.0) == {"p0": 5.0, "p100": 10.0}
    assert Notes.of([]).milliseconds_at(0.5) == {}


def test_statuses_that_are_no_refusal_are_lost():
    gone = "UNAVAILABLE", "failed to connect to all addresses"
    notes = [answered(1, "INTERNAL"), answered(1, "DEADLINE_EXCEEDED"), answered(1, "UNAVAILABLE", told="queue full")]
    found = Notes.of([([*notes, answered(1, gone[0], told=gone[1])], False)])
    assert found.lost == {"INTERNAL": 1, "DEADLINE_EXCEEDED": 1, ": ".join(gone): 1}


@pytest.fixture
def client(tmp_path):
    expected = np.eye(4, dtype=np.float32).reshape(2, 2, 4)
    write_requests(tmp_path / "clients", [b"first", b"second"], b"broken", expected)
    return LoadClient(tmp_path / "clients", "127.0.0.1:1", tmp_path / "notes", seed=0)


def test_a_client_knows_a_wrong_descriptor(client):
    response = predict_pb2.PredictResponse()
    response.outputs["descriptors"].float_val.extend([0, 0, 1, 0])
    assert client.fault(response, version=1, rows=[0]) == ""
    assert client.fault(response, version=3, rows=[0]) == ""
    assert "of version 2" in client.fault(response, version=2, rows=[0])
    assert "cosine" in client.fault(response, version=1, rows=[1])
    assert client.fault(response, version=1, rows=[0, 1]) == "4 numbers for 2 photos"
    assert client.fault(response, version=1, rows=[]) == "a broken photo was described"


def test_requests_are_of_photos_alone_and_several_and_one_is_broken(client, tmp_path):
    listed = json.loads((tmp_path / "clients" / "requests.json").read_text())
    assert sorted(len(each["rows"]) for each in listed) == [0, *[1] * 15, *[4] * 4]
    for each in listed:
        request = predict_pb2.PredictRequest.FromString((tmp_path / "clients" / each["file"]).read_bytes())
        photos = [(b"first", b"second")[row] for row in each["rows"]] or [b"broken"]
        assert list(request.inputs["image_bytes"].string_val) == photos


def test_networks_that_cannot_be_told_apart_are_refused(monkeypatch):
    rows = {"first": np.eye(4)[:2], "second": np.eye(4)[2:], "alike": np.eye(4)[1:3]}

    @contextlib.contextmanager
    def opened(folder):
        yield lambda signature, inputs: {"descriptors": rows[folder].astype(np.float32)}

    monkeypatch.setattr("benchmarks.served.server_load.ServedSession", opened)
    assert known_descriptors(["first", "second"], [b"a", b"b"], 0.995).shape == (2, 2, 4)
    for pair in (["first", "first"], ["first", "alike"]):
        with pytest.raises(InputError, match="two descriptors are alike"):
            known_descriptors(pair, [b"a", b"b"], 0.995)


def test_versions_that_should_not_be_seen_are_faults(tmp_path, monkeypatch):
    for number in range(2):
        (tmp_path / f"source{number}" / "variables").mkdir(parents=True)
        (tmp_path / f"source{number}" / "saved_model.pb").write_bytes(b"graph")
    base = tmp_path / "model"
    base.mkdir()
    versions = Versions(base, [tmp_path / "source0", tmp_path / "source1"], "http://nowhere")
    monkeypatch.setattr(Versions, "_states", lambda self: {101: "LOADING", 1001: "END"})
    versions.half_copy(0)
    versions.damage()
    assert versions.faults == ["the half-copied version 101 was tried", "version 1 went with the damaged version 1001"]
    assert list(base.iterdir()) == []


@pytest.mark.slow
def test_a_short_load_loses_and_mixes_up_nothing(tmp_path):
    """About 60 s: two networks, two clients at twice the capacity, a swap every three seconds, a kill each second."""
    sources = [write_tiny_version(tiny_network(seed), SIDE, tmp_path / f"source{seed}" / "1") for seed in (0, 1)]
    (tmp_path / "model").mkdir()
    settings = LoadSettings(clients=2, measure_seconds=3, swap_seconds=3, kill_seconds=1)
    start = time.perf_counter()
    found = load(tmp_path / "model", sources, example_photos(2 * SIDE, 8), 12, settings)
    assert found["faults"] == []
    assert found["swaps"] >= 1
    assert found["half_copied"] >= 1
    assert found["damaged"] >= 1
    assert found["clients_killed"] >= 2
    assert found["answers"]["OK"] > 20
    assert found["seconds"] < time.perf_counter() - start
