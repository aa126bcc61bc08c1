import pytest
import tensorflow as tf

from tfretrieval.data import decoding, records


@pytest.fixture(scope="session")
def train(record_set):
    return record_set.splits["train"]


@pytest.fixture(scope="session")
def decoded_one_by_one(train):
    """Every photo of the split with a longer side given, decoded one after the other."""

    def decode(side):
        encoded = [records.decode_record(train.read(row)).photo.encoded for row in range(len(train))]
        return [decoding.decode_photo(tf.constant(photo), side).numpy() for photo in encoded]

    return decode
