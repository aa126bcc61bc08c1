import grpc
import pytest

from export.server.bad_rows import find_bad_rows
from export.server.errors import MAX_MESSAGE, StatusError, useful_line


@pytest.mark.parametrize("rows", [1, 2, 7, 64])
@pytest.mark.parametrize("bad", [{0}, {1, 5}, {63}, set()])
def test_the_search_finds_exactly_the_bad_rows(rows, bad):
    calls = []

    def told(start, stop):
        calls.append((start, stop))
        return "bad" if bad & set(range(start, stop)) else None

    reasons, unchecked = find_bad_rows(told, rows)
    assert set(reasons) == {row for row in bad if row < rows}
    assert unchecked == rows
    assert len(calls) <= 1 + 2 * len(bad) * 7


def test_the_search_stops_when_the_time_is_over():
    def told(start, stop):
        if start >= 4:
            raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, "over")
        return "bad" if start <= 2 < stop or stop == 8 else None

    assert find_bad_rows(told, 8) == ({2: "bad"}, 4)


@pytest.mark.parametrize(
    "message",
    [
        "Invalid PNG.\n\t [[{{node map/while/DecodeImage}}]]",
        "Graph execution error:\n\nDetected at node 'a' defined at (most recent call last):\n"
        "  File \"a.py\", line 3, in <module>\nNode: 'a'\nInvalid PNG.\n\t [[{{node a}}]] [Op:x]",
        "2 root error(s) found.\n  (0) INVALID_ARGUMENT: Invalid PNG.\n\t [[{{node a}}]]\n  (1) INVALID_ARGUMENT: x",
    ],
)
def test_graph_nodes_and_traces_are_cut_from_messages(message):
    assert useful_line(message) == "Invalid PNG."


def test_a_models_own_assertion_is_taken_out_of_its_frame():
    assert useful_line("assertion failed: [image_bytes[1]: no]\n\t [[{{node a}}]]") == "image_bytes[1]: no"
    assert useful_line("assertion failed: [a] [1]") == "assertion failed: [a] [1]"


def test_long_messages_are_cut():
    assert len(StatusError(grpc.StatusCode.INTERNAL, "x" * 5000).message) < MAX_MESSAGE + 20
