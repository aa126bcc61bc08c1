import asyncio
import contextlib
import itertools
import threading
import time

import grpc
import numpy as np
import pytest

from export.client import (
    AsyncDescriptorClient,
    DescriptorClient,
    PhotoDescriptor,
    RefusedPhoto,
    Retries,
    ServingError,
)
from export.client.batches import Batch
from export.client.dialogue import after_refusal

BAD = b"not an image"


def named(photos):
    return [(f"p{place}", photo) for place, photo in enumerate(photos)]


class Bar:
    """A progress bar that remembers."""

    def __init__(self, total):
        self.total, self.moves, self.closed = total, [], False

    def update(self, count):
        self.moves.append(count)

    def close(self):
        self.closed = True


# With both servers.


def test_a_stream_gives_each_photo_its_descriptor_in_order(client_of, endpoint, photos, expected):
    bars = []

    def bar(total):
        bars.append(Bar(total))
        return bars[0]

    with client_of(endpoint.grpc_address, max_batch_photos=2, in_flight=3) as client:
        found = list(client.stream(named(photos), progress=bar))
    assert [(type(each), each.id, each.place) for each in found] == [(PhotoDescriptor, f"p{i}", i) for i in range(5)]
    np.testing.assert_allclose([each.descriptor for each in found], expected, atol=1e-6)
    assert (bars[0].total, bars[0].moves, bars[0].closed) == (5, [2, 2, 1], True)


@pytest.mark.parametrize("broken", [{0}, {4}, {1, 2, 5}, set(range(7)), set()], ids=str)
def test_refused_photos_are_skipped_and_told(client_of, endpoint, photos, expected, broken):
    given = [BAD if place in broken else photos[place % 5] for place in range(7)]
    with client_of(endpoint.grpc_address, max_batch_photos=4) as client:
        found = list(client.stream(named(given), skip_refused=True))
    assert [each.place for each in found] == list(range(7))
    for each in found:
        if each.place in broken:
            assert isinstance(each, RefusedPhoto) and each.id == f"p{each.place}"
            assert each.reason.startswith("Unknown image file format")
            assert "among photos" not in each.reason and "127.0.0.1" not in each.reason
        else:
            np.testing.assert_allclose(each.descriptor, expected[each.place % 5], atol=1e-6)


def test_a_request_that_is_at_fault_itself_is_not_blamed_on_the_photos(client_of, endpoint, photos):
    with client_of(endpoint.grpc_address, output_name="nope") as client, pytest.raises(ServingError) as caught:
        list(client.stream(named(photos), skip_refused=True))
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT and "nope" in caught.value.message


def test_refused_photos_end_a_stream_that_does_not_skip_them(client_of, endpoint, photos):
    with client_of(endpoint.grpc_address, max_batch_photos=2, in_flight=1) as client:
        found = client.stream(named([*photos[:3], BAD, photos[4]]))
        assert [next(found).id, next(found).id] == ["p0", "p1"]
        with pytest.raises(ServingError, match="INVALID_ARGUMENT"):
            next(found)


# With a scripted server.


def test_several_requests_are_under_way_and_answers_stay_in_order(client_of, serve):
    script = serve(wait=lambda batch: {1: 0.3, 3: 0.15}.get(len(batch[0]), 0.02))
    with client_of(script.address, max_batch_photos=1, in_flight=4) as client:
        found = list(client.stream(named([b"x" * size for size in range(1, 9)])))
    assert [each.descriptor[0] for each in found] == list(range(1, 9))
    assert script.most >= 3


def test_memory_is_bounded_however_slow_the_reader_of_the_answers_is(client_of, serve):
    alive, most = 0, 0
    lock = threading.Lock()

    class Photo(bytes):
        """Counts how many there are."""

        def __new__(cls, data):
            nonlocal alive, most
            with lock:
                alive += 1
                most = max(most, alive)
            return super().__new__(cls, data)

        def __del__(self):
            nonlocal alive
            with lock:
                alive -= 1

    with client_of(serve().address, max_batch_photos=4, in_flight=3) as client:
        count = 0
        for _ in client.stream((f"p{place}", Photo(b"x")) for place in range(200)):
            count += 1
            time.sleep(0.001)
    assert count == 200
    # Three batches under way, three that their threads have just done with, one being made and one being looked at.
    assert most <= 4 * (3 + 3 + 1 + 1) + 1


def test_rounds_of_named_refusals_and_unnamed_ones_find_the_same_photos(client_of, serve):
    bad = {3, 4, 9, 17, 30}
    given = [b"bad" if place in bad else b"good" for place in range(32)]

    def first_named(batch):
        rows = [row for row, photo in enumerate(batch) if photo == b"bad"]
        told = "; ".join(f"image_bytes[{row}]: broken {row}" for row in rows[:2])
        return told + " (not checked from row 30 on)" if len(rows) > 2 else told or None

    for refuse in (first_named, lambda batch: "broken" if b"bad" in batch else None):
        script = serve(refuse=refuse)
        with client_of(script.address, max_batch_photos=32) as client:
            found = list(client.stream(named(given), skip_refused=True))
        assert [each.place for each in found] == list(range(32))
        assert {each.place for each in found if isinstance(each, RefusedPhoto)} == bad
        assert all(each.reason.startswith("broken") for each in found if isinstance(each, RefusedPhoto))


def test_other_failures_end_a_stream_that_skips_refused_photos(client_of, serve):
    script = serve(failures=[(grpc.StatusCode.INTERNAL, "image_bytes[0]: a bug")])
    with client_of(script.address) as client, pytest.raises(ServingError, match="INTERNAL"):
        list(client.stream(named([b"x"]), skip_refused=True))


@pytest.mark.parametrize("photos", [[b"x"], [("p", "x")], [(1, b"x")], [("p", b"x", 1)]], ids=str)
def test_streams_take_pairs_of_a_name_and_bytes(client_of, serve, photos):
    with client_of(serve().address) as client, pytest.raises(TypeError, match="photo 0 is a"):
        list(client.stream(photos))


def test_an_empty_stream_asks_nothing(client_of, serve):
    script = serve()
    with client_of(script.address) as client:
        assert list(client.stream([])) == []
    assert not script.batches


def test_an_error_of_the_source_ends_the_stream_and_its_requests(client_of, serve):
    def photos():
        yield "p0", b"x"
        yield "p1", b"y"
        raise OSError("the disk is gone")

    script = serve(wait=5.0)
    start = time.monotonic()
    with client_of(script.address, max_batch_photos=1, in_flight=3) as client, pytest.raises(OSError, match="disk"):
        list(client.stream(photos()))
    assert time.monotonic() - start < 3
    wait_for(lambda: script.cancelled == len(script.batches))


# Cancellation.


def test_leaving_a_stream_cancels_its_requests_and_reads_no_further(client_of, serve):
    script, taken = serve(wait=lambda batch: 0 if batch == [b"first"] else 5), itertools.count()
    start = time.monotonic()
    with client_of(script.address, max_batch_photos=1, in_flight=3) as client:
        found = client.stream((f"p{next(taken)}", photo) for photo in [b"first", *[b"x"] * 99])
        next(found)
        found.close()
        assert time.monotonic() - start < 3
        assert client.describe([b"first"]).tolist() == [[5, 0]]
    wait_for(lambda: not script.running and script.cancelled == len(script.batches) - 2)
    assert next(taken) <= 5


def test_closing_a_client_ends_its_questions_in_other_threads(serve):
    script, codes = serve(wait=5.0), []
    client = DescriptorClient(script.address, max_batch_photos=1)

    def ask():
        with pytest.raises(ServingError) as caught:
            client.describe([b"x", b"y"])
        codes.append(caught.value.code)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_for(lambda: script.running >= 3)
    client.close()
    for thread in threads:
        thread.join(3)
    assert codes == [grpc.StatusCode.CANCELLED] * 3
    with pytest.raises(ServingError, match="CANCELLED: the client was closed"):
        client.describe([b"x"])


def test_closing_a_client_ends_a_wait_before_a_retry(serve):
    script = serve(failures=[(grpc.StatusCode.UNAVAILABLE, "no")] * 9)
    client = DescriptorClient(script.address, retries=Retries(first_wait=20, longest_wait=20))
    threading.Timer(0.2, client.close).start()
    start = time.monotonic()
    with pytest.raises(ServingError, match="CANCELLED: the client was closed"):
        client.describe([b"x"])
    assert time.monotonic() - start < 3


def test_a_cancelled_task_cancels_its_requests(serve):
    script = serve(wait=5.0)

    async def main(**settings):
        async with AsyncDescriptorClient(script.address, max_batch_photos=1, **settings) as client:
            before = len(script.batches)
            task = asyncio.create_task(client.describe([b"x", b"y"]))
            while len(script.batches) < before + 2:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            while script.running:
                await asyncio.sleep(0.01)

    start = time.monotonic()
    asyncio.run(main())
    asyncio.run(main(hedge_after=0.01))
    assert time.monotonic() - start < 4
    assert script.cancelled == len(script.batches) >= 4


def test_closing_asyncios_client_ends_the_questions_of_other_tasks(serve):
    script = serve(wait=5.0)

    async def main(settings):
        client = AsyncDescriptorClient(script.address, **settings)
        before = len(script.batches)
        task = asyncio.create_task(client.describe([b"x"]))
        while len(script.batches) == before:
            await asyncio.sleep(0.01)
        await client.close()
        with pytest.raises(ServingError) as caught:
            await task
        assert caught.value.code == grpc.StatusCode.CANCELLED
        with pytest.raises(ServingError, match="CANCELLED: the client was closed"):
            await client.describe([b"x"])

    for settings in ({}, {"hedge_after": 0.01}):
        asyncio.run(asyncio.wait_for(main(settings), 4))


def test_asyncio_reads_photos_as_they_come_and_shares_the_loop(serve):
    script, ticks = serve(wait=0.05), 0

    async def photos():
        for place in range(6):
            await asyncio.sleep(0.01)
            yield f"p{place}", b"x" * (place + 1)

    def slow():
        for place in range(6):
            time.sleep(0.05)  # a slow disk; the loop goes on meanwhile
            yield f"p{place}", b"x" * (place + 1)

    async def tick():
        nonlocal ticks
        while True:
            await asyncio.sleep(0.005)
            ticks += 1

    async def main():
        task = asyncio.create_task(tick())
        async with AsyncDescriptorClient(script.address, max_batch_photos=2) as client:
            for source in (photos(), slow()):
                async with contextlib.aclosing(client.stream(source)) as found:
                    assert [each.descriptor[0] async for each in found] == [1, 2, 3, 4, 5, 6]
        task.cancel()

    asyncio.run(main())
    assert ticks >= 20


# What is asked again after a refusal.


def refusal(message, photos=()):
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, f"{message} (host:1)", photos)


def test_named_photos_are_refused_with_their_own_reasons_and_the_others_asked_again():
    batch = Batch((10, 11, 12, 13), (b"a", b"b", b"c", b"d"), ("A", "B", "C", "D"))
    told = refusal("image_bytes[11]: is empty; image_bytes[13]: [x]; broken", (11, 13))
    refused, rest = after_refusal(batch, told, "image_bytes", "host:1")
    assert refused == [RefusedPhoto("B", 11, "is empty"), RefusedPhoto("D", 13, "[x]; broken")]
    assert rest == [Batch((10, 12), (b"a", b"c"), ("A", "C"))]


def test_unnamed_photos_are_halved_down_to_one():
    batch = Batch((4, 5, 6), (b"a", b"b", b"c"), ("A", "B", "C"))
    refused, rest = after_refusal(batch, refusal("among photos 4 to 6: bad"), "image_bytes", "host:1")
    assert (refused, [part.ids for part in rest]) == ([], [("A",), ("B", "C")])
    alone, rest = after_refusal(rest[0], refusal("among photos 4 to 4: bad"), "image_bytes", "host:1")
    assert (alone, rest) == ([RefusedPhoto("A", 4, "bad")], [])


def wait_for(condition, seconds=5):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)
