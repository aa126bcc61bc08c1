import keras
import numpy as np
import pytest

from export.precision_check import PrecisionSettings, check
from tfretrieval.errors import InputError
from tfretrieval.evaluation.benchmark import Benchmark
from tfretrieval.evaluation.evaluate import evaluate
from tfretrieval.extraction import Extractor


def network(noise=0.0):
    """Mean colours of a 4 x 4 grid, with a fixed vector added to each descriptor."""
    pixels = keras.Input((None, None, 3))
    cells = keras.layers.Resizing(4, 4, interpolation="bilinear")(pixels)
    flat = keras.layers.Flatten()(cells)
    added = noise * np.random.default_rng(0).normal(size=48).astype(np.float32) * 255
    return keras.Model(
        pixels, keras.layers.UnitNormalization()(keras.layers.Lambda(lambda flat: flat - 128 + added)(flat))
    )


def test_equal_networks_have_a_cosine_of_1():
    told = check(network(), network(), 32, PrecisionSettings())
    assert (told["min_cosine"], told["mean_cosine"], told["least_cosine"]) == (1.0, 1.0, 0.99999)
    assert (told["of"], told["records"], told["photos"]) == ("generated photos", None, 8) and "map" not in told


def test_records_with_queries_and_a_database_tell_the_change_of_map(record_set):
    one, other = network(), network(0.5)
    told = check(one, other, 48, PrecisionSettings(check_records=str(record_set.directory), min_cosine=0.0))
    found = {}
    for name, model in (("one", one), ("other", other)):
        extractor = Extractor(model, 48)
        vectors = [extractor(record_set.split(split)) for split in ("queries", "database")]
        relevance = Benchmark.load(record_set.directory).relevance()
        found[name] = (np.concatenate(vectors), evaluate(*vectors, relevance).map)
    cosines = (found["one"][0] * found["other"][0]).sum(axis=1)
    assert told["photos"] == 15 and told["records"] == record_set.sha256 and told["of"] == "small: queries and database"
    assert told["min_cosine"] == pytest.approx(cosines.min(), abs=1e-5) and told["min_cosine"] < 0.99
    assert told["mean_cosine"] == pytest.approx(cosines.mean(), abs=1e-5)
    assert (told["map_float32"], told["map"]) == pytest.approx((found["one"][1], found["other"][1]), abs=1e-6)
    assert told["map_change"] == pytest.approx(told["map"] - told["map_float32"], abs=2e-6)


def test_one_split_is_compared_where_it_is_named(record_set):
    settings = PrecisionSettings(check_records=str(record_set.directory), check_split="train")
    told = check(network(), network(), 48, settings)
    assert (told["of"], told["photos"]) == ("small: train", 15) and "map" not in told
    with pytest.raises(InputError, match="--split=absent does not name one"):
        check(network(), network(), 48, PrecisionSettings(check_records=settings.check_records, check_split="absent"))


@pytest.mark.parametrize(("precision", "least"), [("float32", 0.99999), ("bfloat16", 0.999), ("int8", 0.999)])
def test_a_network_below_the_least_cosine_is_refused(precision, least):
    told = (
        rf"--precision={precision}: the cosine to float32 falls to 0\.\d+ on generated .*, below --min_cosine={least};"
    )
    with pytest.raises(InputError, match=told):
        check(network(), network(0.5), 32, PrecisionSettings(precision))
    assert check(network(), network(0.5), 32, PrecisionSettings(precision, min_cosine=0.1))["least_cosine"] == 0.1


def test_the_bound_itself_is_let_through():
    settings = PrecisionSettings(min_cosine=0.0)
    lowest = check(network(), network(0.5), 32, settings)["min_cosine"]
    check(network(), network(0.5), 32, PrecisionSettings(min_cosine=lowest - 1e-5))
    with pytest.raises(InputError, match="below --min_cosine"):
        check(network(), network(0.5), 32, PrecisionSettings(min_cosine=lowest + 1e-5))


def test_descriptors_that_are_not_finite_are_refused():
    class Broken:
        output_shape = (None, 48)

        def __call__(self, images, training=False):
            return network()(images) * float("nan")

    with pytest.raises(InputError, match="--format=onnx: a descriptor is not finite"):
        check(network(), Broken(), 32, PrecisionSettings(min_cosine=-1.0), "--format=onnx")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"precision": "half"}, "--precision=half is unknown"),
        ({"min_cosine": 1.5}, r"--min_cosine=1\.5; a cosine"),
        ({"min_cosine": float("nan")}, "--min_cosine=nan; a cosine"),
        ({"check_split": "train"}, "--check_split=train was given without --check_records"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, told):
    with pytest.raises(InputError, match=told):
        PrecisionSettings(**settings)
