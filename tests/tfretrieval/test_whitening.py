import numpy as np
import pytest

from tfretrieval.errors import InputError
from tfretrieval.models.descriptor import DescriptorConfig, add_whitening, build_descriptor
from tfretrieval.whitening import Whitening, fit_discriminative, fit_pca


def samples(count=400, width=12, seed=0):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, width)) @ rng.normal(size=(width, width)) + rng.normal(size=width)
    return vectors.astype(np.float32)


def test_without_shrinkage_the_whitened_covariance_is_the_identity():
    vectors = samples()
    fitted = fit_pca(vectors, shrinkage=0.0)
    whitened = (vectors - fitted.mean) @ fitted.projection.T
    np.testing.assert_allclose(whitened.T @ whitened / len(vectors), np.eye(12), atol=1e-3)


@pytest.mark.parametrize("shrinkage", [0.1, 1.0, 10.0])
def test_shrunk_variances_are_those_of_the_formula(shrinkage):
    vectors = samples(width=30)
    fitted = fit_pca(vectors, shrinkage=shrinkage)
    whitened = (vectors - fitted.mean) @ fitted.projection.T
    variances = np.sort(np.linalg.eigvalsh(np.cov(vectors.T.astype(np.float64), bias=True)))[::-1]
    expected = variances / (variances + shrinkage * variances[:20].mean())
    np.testing.assert_allclose(whitened.var(axis=0), expected, rtol=1e-3)
    assert (np.diff(expected) <= 0).all()


def test_fewer_dimensions_are_the_first_ones():
    vectors = samples()
    np.testing.assert_array_equal(fit_pca(vectors, 5).projection, fit_pca(vectors).projection[:5])


def test_applied_descriptors_have_length_1_and_survive_fewer_samples_than_dimensions(tmp_path):
    vectors = samples(count=6, width=12)
    fitted = fit_pca(vectors, shrinkage=0.0)
    found = fitted.apply(samples(seed=1))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    fitted.save(tmp_path / "w.npz")
    np.testing.assert_array_equal(Whitening.load(tmp_path / "w.npz").apply(vectors), fitted.apply(vectors))


def test_a_network_with_the_whitening_folded_in_gives_the_whitened_descriptors():
    network = build_descriptor(DescriptorConfig(backbone="small_resnet"))
    photos = np.random.default_rng(0).integers(0, 256, (20, 40, 48, 3), np.uint8)
    plain = np.asarray(network(photos))
    fitted = fit_pca(plain, dimension=7)
    folded = add_whitening(network, fitted)
    np.testing.assert_allclose(np.asarray(folded(photos)), fitted.apply(plain), atol=2e-4)
    with pytest.raises(InputError, match="whitening already"):
        add_whitening(folded, fit_pca(np.asarray(folded(photos))))


@pytest.mark.parametrize(
    ("vectors", "flags", "sentence"),
    [
        (samples(count=1), {}, "two or more"),
        (samples(), {"dimension": 13}, "--dimension=13"),
        (samples(), {"shrinkage": -1.0}, "--shrinkage=-1.0"),
        (samples(), {"shrinkage": float("nan")}, "--shrinkage=nan"),
    ],
)
def test_what_cannot_be_fitted_is_refused(vectors, flags, sentence):
    with pytest.raises(InputError, match=sentence):
        fit_pca(vectors, **flags)


def test_a_whitening_for_another_dimension_and_a_broken_file_are_named(tmp_path):
    with pytest.raises(InputError, match="256 dimensions and the whitening takes 12"):
        add_whitening(build_descriptor(DescriptorConfig(backbone="small_resnet")), fit_pca(samples()))
    (tmp_path / "w.npz").write_bytes(b"")
    with pytest.raises(InputError, match=r"w\.npz is not a whitening"):
        Whitening.load(tmp_path / "w.npz")


def labelled(count=600, width=8, instances=40, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, instances, count)
    centres, spread = rng.normal(size=(instances, width)), rng.normal(size=(width, width))
    return (centres[labels] + 0.3 * rng.normal(size=(count, width)) @ spread).astype(np.float32), labels


def test_discriminative_whitening_makes_the_scatter_within_instances_the_identity():
    vectors, labels = labelled()
    fitted = fit_discriminative(vectors, labels, shrinkage=0.0, total_share=0.0)
    whitened = ((vectors - fitted.mean) @ fitted.projection.T).astype(np.float64)
    around = np.concatenate([whitened[labels == label] - whitened[labels == label].mean(0) for label in range(40)])
    np.testing.assert_allclose(around.T @ around / len(around), np.eye(8), atol=1e-3)


def test_the_share_of_the_total_scatter_is_that_of_the_formula():
    vectors, labels = labelled()
    fitted = fit_discriminative(vectors, labels, shrinkage=0.0, total_share=0.5)
    exact = vectors.astype(np.float64)
    within = sum(np.cov(exact[labels == label].T, bias=True) * (labels == label).sum() for label in range(40)) / len(
        exact
    )
    equalised = fitted.projection @ (within + 0.5 * np.cov(exact.T, bias=True)) @ fitted.projection.T
    np.testing.assert_allclose(equalised, np.eye(8), atol=1e-3)


def test_a_large_share_of_the_total_is_pca_whitening():
    vectors, labels = labelled()
    pca, mixed = fit_pca(vectors, shrinkage=0.0), fit_discriminative(vectors, labels, shrinkage=0.0, total_share=1e6)
    same = pca.apply(vectors) @ pca.apply(vectors).T - mixed.apply(vectors) @ mixed.apply(vectors).T
    assert np.abs(same).max() < 1e-3


def test_instances_of_one_photo_each_have_no_scatter_to_learn_from():
    with pytest.raises(InputError, match="each of the 400 instances has one descriptor"):
        fit_discriminative(samples(), np.arange(400))
    with pytest.raises(InputError, match="--total_share=-1"):
        fit_discriminative(samples(), np.zeros(400, int), total_share=-1)
