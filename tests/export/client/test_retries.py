import time

import grpc
import pytest

from export.client import DescriptorClient, Retries, ServingError
from export.client.retries import RetryBudget

UNAVAILABLE = (grpc.StatusCode.UNAVAILABLE, "not now")


def test_retries_never_exceed_the_tokens_and_a_share_of_the_answers():
    budget, answers, sent = RetryBudget(4, 0.25), 0, 0
    for turn in range(200):  # calm, then nothing but failures, over and over
        if turn % 50 < 30:
            budget.answered()
            answers += 1
        sent += budget.take()
        assert sent <= 4 + 0.25 * answers
    assert sent == 3 + 0.25 * answers  # all that was paid for, but for what came while the bucket was full


def test_the_bucket_does_not_fill_beyond_its_size():
    budget = RetryBudget(2, 1.0)
    for _ in range(10):
        budget.answered()
    assert [budget.take() for _ in range(4)] == [True, True, False, False]


def test_a_server_that_is_down_is_not_hammered(client_of, serve):
    script = serve(failures=[UNAVAILABLE] * 1000)
    patient = Retries(attempts=50, first_wait=0, tokens=7, share=0.1)
    with client_of(script.address, retries=patient) as client:
        for _ in range(10):
            with pytest.raises(ServingError, match="UNAVAILABLE: not now"):
                client.describe([b"x"])
    assert len(script.batches) == 10 + 7  # each question once, and seven retries of all together


def test_answers_pay_for_later_retries(client_of, serve):
    script = serve()
    with client_of(script.address, retries=Retries(first_wait=0, tokens=1, share=0.5)) as client:
        script.failures = [UNAVAILABLE]
        client.describe([b"x"])  # takes the token, and puts a half back
        script.failures = [UNAVAILABLE]
        with pytest.raises(ServingError):
            client.describe([b"x"])
        client.describe([b"x"])
        script.failures = [UNAVAILABLE]
        client.describe([b"x"])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"attempts": 0}, "attempts is 0; 1 or more"),
        ({"share": -0.1}, "share is -0.1; a number from 0"),
        ({"tokens": float("nan")}, "tokens is nan"),
    ],
)
def test_numbers_out_of_range_are_refused(given, told):
    with pytest.raises(ValueError, match=told):
        Retries(**given)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"in_flight": 0}, "in_flight is 0"),
        ({"channels": 0}, "channels is 0"),
        ({"hedge_after": 0}, "hedge_after is 0"),
        ({"max_batch_photos": 0}, "max_photos is 0"),
    ],
)
def test_clients_refuse_numbers_out_of_range(given, told):
    with pytest.raises(ValueError, match=told):
        DescriptorClient("127.0.0.1:1", **given)


# Hedging.


def test_nothing_is_sent_twice_unless_told(client_of, serve):
    script = serve(wait=0.3)
    with client_of(script.address) as client:
        client.describe([b"x"])
    assert len(script.batches) == 1


def test_a_late_answer_is_overtaken_by_a_second_request_on_another_connection(client_of, serve):
    script = serve(wait=[5.0, 0.0])
    start = time.monotonic()
    with client_of(script.address, hedge_after=0.1, channels=2) as client:
        assert client.describe([b"x"]).tolist() == [[1, 0]]
        assert 0.1 <= time.monotonic() - start < 3
        assert script.batches == [[b"x"], [b"x"]]
        assert len(set(script.peers)) == 2
        wait_for(lambda: script.cancelled == 1)  # the loser, on the server's side


def test_a_quick_answer_needs_no_second_request(client_of, serve):
    script = serve()
    with client_of(script.address, hedge_after=5.0, channels=2) as client:
        client.describe([b"x"])
    assert len(script.batches) == 1


def test_hedges_are_paid_from_the_budget(client_of, serve):
    script = serve(wait=0.35)
    retries = Retries(tokens=2, share=0)
    with client_of(script.address, hedge_after=0.03, retries=retries, max_batch_photos=1, in_flight=1) as client:
        client.describe([b"x"] * 3)
    assert len(script.batches) == 3 + 2


def test_the_second_request_answers_when_the_first_finds_the_server_full(client_of, serve):
    script = serve(wait=[0.7, 0.8], failures=[(grpc.StatusCode.RESOURCE_EXHAUSTED, "full"), None])
    with client_of(script.address, hedge_after=0.05) as client:
        assert client.describe([b"x"]).tolist() == [[1, 0]]


def test_a_refusal_of_either_request_ends_both(client_of, serve):
    script = serve(wait=[5.0, 0.0], failures=[None, (grpc.StatusCode.INVALID_ARGUMENT, "image_bytes[0]: no image")])
    start = time.monotonic()
    with client_of(script.address, hedge_after=0.05) as client, pytest.raises(ServingError, match="no image"):
        client.describe([b"x"])
    assert time.monotonic() - start < 3


def test_both_requests_unavailable_are_one_failure_that_is_tried_again(client_of, serve):
    script = serve(wait=[0.8, 0.0], failures=[UNAVAILABLE, UNAVAILABLE])
    with client_of(script.address, hedge_after=0.05, retries=Retries(first_wait=0.01)) as client:
        assert client.describe([b"x"]).tolist() == [[1, 0]]
    assert len(script.batches) == 3


def test_the_deadline_is_of_both_requests(client_of, serve):
    script = serve(wait=5.0)
    start = time.monotonic()
    with client_of(script.address, hedge_after=0.1, timeout=0.9) as client, pytest.raises(ServingError) as caught:
        client.describe([b"x"])
    assert caught.value.code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert 0.8 < time.monotonic() - start < 4
    assert len(script.batches) == 2


# Connections.


def test_requests_are_spread_over_the_connections(client_of, serve):
    script = serve(wait=0.05)
    with client_of(script.address, channels=3, in_flight=3, max_batch_photos=1) as client:
        client.describe([b"x"] * 9)
    assert sorted(script.peers.count(peer) for peer in set(script.peers)) == [3, 3, 3]
    assert script.most == 3


def test_a_name_of_several_addresses_is_several_servers(client_of, serve):
    scripts = [serve(), serve()]
    address = "ipv4:" + ",".join(script.address for script in scripts)
    with client_of(address, max_batch_photos=1, in_flight=1) as client:
        client.describe([b"x"] * 40)
    assert all(len(script.batches) >= 10 for script in scripts)


def wait_for(condition, seconds=5):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)
