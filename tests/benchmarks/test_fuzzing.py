import os
import signal

import numpy as np
import pytest
from PIL import Image

from benchmarks.served import serving
from benchmarks.served.fuzz_client import CLOSED, FuzzClient
from benchmarks.served.fuzzing import fuzz, header_milliseconds, known_photos, own_lines, summary
from benchmarks.served.mutated_files import mutated_files
from benchmarks.served.mutated_messages import Attack
from benchmarks.served.mutated_requests import mutated_requests
from benchmarks.served.odd_photos import encode

PHOTO = encode(Image.new("RGB", (4, 4)), "PNG")


@pytest.fixture(scope="module")
def known(tiny_base):
    return known_photos(tiny_base / "1")


def test_wrong_requests_and_broken_files_are_answered_as_what_they_are(server, known):
    outcomes = fuzz(FuzzClient(server, *known), 255, 165, seed=11, workers=4)
    found = summary(outcomes)
    assert found["first_faults"] == []
    assert found["right_requests"] >= 50
    assert set(found["answers"][FuzzClient.RIGHT]) == {"OK", "200"}
    assert sum(count for each in found["answers"].values() for count in each.values()) == len(outcomes)
    answered = {kind: set(statuses) for kind, statuses in found["answers"].items()}
    assert answered["file, flipped"] == {"OK", "INVALID_ARGUMENT"}, "some are broken, some are not"
    assert answered["a method"] == {"UNIMPLEMENTED"}


def test_headers_that_ask_for_gigabytes_are_refused_in_milliseconds(server, known):
    client = FuzzClient(server, *known)
    client.describe_known(0)
    assert max(header_milliseconds(client).values()) < 100  # 3 to 5 on a quiet machine; decoding one takes seconds


def test_a_wrong_answer_is_a_fault(server, known):
    photos, descriptors = known
    swapped = FuzzClient(server, photos[::-1], descriptors)
    assert "another descriptor" in swapped.describe_known(0).fault
    client = FuzzClient(server, [b"broken"], descriptors)
    assert "INVALID_ARGUMENT" in client.describe_known(0).fault
    assert "400" in client.describe_known(1).fault
    right = Attack("right", "/tensorflow.serving.PredictionService/Predict", b"", frozenset({"OK"}))
    assert client.attack(right).fault.startswith("INVALID_ARGUMENT to /tensorflow")
    assert client.attack(Attack("wrong", "", b"GET /v1 HTTP/1.1\r\n\r\n", frozenset({200}))).fault.startswith("404")
    nothing = client.attack(Attack("nothing", "", b"\r\n", frozenset()))
    assert (nothing.status, nothing.fault) == (CLOSED, "")


def test_the_same_seed_makes_the_same_requests_and_files():
    for make in (lambda seed: mutated_requests(60, seed, PHOTO), lambda seed: mutated_files(40, seed)):
        first, again, other = list(make(3)), list(make(3)), list(make(4))
        assert first == again
        assert first != other
    changed = [each.encoded for each in mutated_files(40, 3)]
    assert len(set(changed)) > 35


def test_own_lines_leave_the_jpeg_librarys_out():
    assert own_lines("Corrupt JPEG data: premature end\nTraceback (most recent call last):") == (
        "Traceback (most recent call last):"
    )


@pytest.mark.slow
def test_a_server_process_stays_whole_and_one_that_ends_is_a_fault(tiny_base, known):
    """About 40 s: the server starts as a process of its own, and is fuzzed for 2,000 requests and files."""
    with serving.ServerProcess(tiny_base, "--enable_batching") as process:
        client = FuzzClient(process, *known)
        for number in range(24):
            assert not client.describe_known(number).fault
        before = process.megabytes()
        found = summary(fuzz(client, 1000, 1000, seed=12, workers=6))
        assert found["first_faults"] == []
        assert process.is_running
        assert process.megabytes(peak=True) - before < 600
        assert "Traceback" not in process.log()
        os.kill(process._process.pid, signal.SIGKILL)
        gone = fuzz(client, 20, 0, seed=13, workers=2)
        assert summary(gone)["faults"] > 0
        assert not np.any([outcome.status == "OK" for outcome in gone])
