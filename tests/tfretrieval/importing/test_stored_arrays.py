import numpy as np
import pytest

from tfretrieval.importing.stored_arrays import StoredArray, StoredType, reconstruct, to_arrays


def stored(state):
    array = reconstruct(StoredArray, (0,), b"b")
    array.__setstate__(state)
    return array


def kind(name, order="<"):
    made = StoredType(name, False, True)
    made.__setstate__((3, order, None, None, None, -1, -1, 0))
    return made


def test_numpys_own_state_gives_its_array():
    array = np.arange(24, dtype=">i2").reshape(2, 3, 4)
    state = array.__reduce__()[2]
    np.testing.assert_array_equal(to_arrays({"a": [stored((*state[:2], kind("i2", ">"), *state[3:]))]})["a"][0], array)


@pytest.mark.parametrize(
    "state",
    [
        None,
        (1, (2,), kind("f4"), False),
        (1, (2,), kind("f4"), False, b"1234567"),  # too few bytes
        (1, (2**40, 2**40), kind("f8"), False, b""),
        (1, (-1,), kind("f4"), False, b""),
        (1, [2], kind("f4"), False, b"12345678"),
        (1, (1,), kind("O8"), False, b"12345678"),  # bytes that would be taken for an address
        (1, (1,), kind("V8"), False, b"12345678"),
        (1, (1,), kind("f8", "!"), False, b"12345678"),
        (1, (1,), "f8", False, b"12345678"),
        (1, (1,), kind("f8"), False, [1.0]),
    ],
)
def test_a_made_up_state_is_refused(state):
    with pytest.raises(ValueError, match="an array"):
        stored(state).to_array()


def test_an_array_without_a_state_is_refused():
    with pytest.raises(ValueError, match="without its state"):
        to_arrays((reconstruct(),))
