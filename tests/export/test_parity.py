import numpy as np
import pytest

from export import parity
from tfretrieval.errors import InputError


def test_smallest_and_mean_cosine_are_those_of_the_worst_pair_of_ways():
    first = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    second = np.array([[1.0, 0.0], [0.6, 0.8]], np.float32)
    third = np.array([[3.0, 0.0], [0.0, 2.0]], np.float32)  # length does not matter
    found = parity.compare({"a": first, "b": second, "c": third})
    assert found.ways == ("a", "b", "c")
    assert found.photos == 2
    assert found.min_cosine == pytest.approx(0.8, abs=1e-7)
    assert found.mean_cosine == pytest.approx((1 + 0.8 + 1 + 1 + 1 + 0.8) / 6, abs=1e-7)


@pytest.mark.parametrize(
    "ways",
    [
        {"a": np.ones((2, 3))},
        {"a": np.ones((2, 3)), "b": np.ones((2, 4))},
        {"a": np.ones((0, 3)), "b": np.ones((0, 3))},
    ],
    ids=["one way", "other shapes", "no photo"],
)
def test_what_cannot_be_compared_is_refused(ways):
    with pytest.raises(InputError, match="cannot be compared"):
        parity.compare(ways)
