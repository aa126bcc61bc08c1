import json

import keras
import numpy as np
import pytest

from tfretrieval import whitening
from tfretrieval.errors import InputError
from tfretrieval.models.descriptor import DescriptorConfig, add_whitening, build_descriptor, load_descriptor
from tfretrieval.whitening import Whitening, fit_discriminative, fit_pairs, fit_pca, pairs_of
from tfretrieval.whitening.fits import equalise, forward
from tfretrieval.whitening.scatters import pair_and_total_scatter, pair_scatter, total_scatter, within_scatter


def samples(count=400, width=12, seed=0):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, width)) @ rng.normal(size=(width, width)) + rng.normal(size=width)
    return vectors.astype(np.float32)


def labelled(count=600, width=8, instances=40, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, instances, count)
    centres, spread = rng.normal(size=(instances, width)), rng.normal(size=(width, width))
    return (centres[labels] + 0.3 * rng.normal(size=(count, width)) @ spread).astype(np.float32), labels


def before_length(fitted, vectors):
    """Whitened vectors before L2, in float64."""
    return (vectors.astype(np.float64) - fitted.mean) @ fitted.projection.T.astype(np.float64)


def up_to_sign(found, expected):
    """The rows of `found`, each with the sign that brings it nearer to its row of `expected`."""
    return found * np.sign((found * expected).sum(axis=1, keepdims=True))


def test_pca_is_that_of_the_singular_value_decomposition():
    vectors = samples()
    centred = vectors.astype(np.float64) - vectors.astype(np.float64).mean(axis=0)
    _, lengths, directions = np.linalg.svd(centred, full_matrices=False)
    expected = directions / (lengths / len(vectors) ** 0.5)[:, None]
    fitted = fit_pca(vectors, shrinkage=0.0)
    np.testing.assert_allclose(up_to_sign(fitted.projection, expected), expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(fitted.mean, vectors.mean(axis=0), atol=1e-5)


def test_without_shrinkage_the_whitened_covariance_is_the_identity():
    vectors = samples()
    whitened = before_length(fit_pca(vectors, shrinkage=0.0), vectors)
    np.testing.assert_allclose(whitened.T @ whitened / len(vectors), np.eye(12), atol=1e-3)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_power_leaves_that_share_of_each_variance(power):
    vectors = samples()
    variances = np.sort(np.linalg.eigvalsh(np.cov(vectors.T.astype(np.float64), bias=True)))[::-1]
    whitened = before_length(fit_pca(vectors, shrinkage=0.0, power=power), vectors)
    np.testing.assert_allclose(whitened.var(axis=0), variances ** (1 - power), rtol=1e-3)


def test_power_0_keeps_every_cosine_of_centred_descriptors():
    vectors = samples()
    centred = vectors - vectors.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    found = fit_pca(vectors, power=0.0).apply(vectors)
    np.testing.assert_allclose(found @ found.T, centred @ centred.T, atol=1e-5)


@pytest.mark.parametrize("shrinkage", [0.1, 1.0, 10.0])
def test_shrunk_variances_are_those_of_the_formula(shrinkage):
    vectors = samples(width=30)
    whitened = before_length(fit_pca(vectors, shrinkage=shrinkage), vectors)
    variances = np.sort(np.linalg.eigvalsh(np.cov(vectors.T.astype(np.float64), bias=True)))[::-1]
    expected = variances / (variances + shrinkage * variances[:20].mean())
    np.testing.assert_allclose(whitened.var(axis=0), expected, rtol=1e-3)
    assert (np.diff(expected) <= 0).all()


def test_fewer_dimensions_are_the_first_ones():
    vectors, labels = labelled()
    pairs = pairs_of(labels)
    for fit, given in ((fit_pca, ()), (fit_pairs, pairs), (fit_discriminative, (labels,))):
        full, few = fit(vectors, *given), fit(vectors, *given, dimension=5)
        np.testing.assert_array_equal(few.projection, full.projection[:5])
        np.testing.assert_array_equal(few.mean, full.mean)
        assert few.facts["dimensions"] == {"from": 8, "to": 5}


def reference_lw(vectors, pairs):
    """Lw by explicit sums and a square root of C_S, which differs from the Cholesky factor by a rotation only."""
    exact = vectors.astype(np.float64)
    mean = sum(exact[query] for query, _ in pairs) / len(pairs)
    scatter = sum(np.outer(exact[q] - exact[p], exact[q] - exact[p]) for q, p in pairs) / len(pairs)
    total = sum(np.outer(row - mean, row - mean) for row in exact)
    values, directions = np.linalg.eigh(scatter)
    root = directions @ np.diag(values**-0.5) @ directions.T
    values, directions = np.linalg.eigh(root @ total @ root)
    return mean, (root @ directions[:, np.argsort(-values)]).T


@pytest.fixture(scope="module")
def uneven_pairs():
    """Pairs that leave out photos, repeat some as queries, and are more in some instances."""
    vectors, labels = labelled()
    queries, positives = pairs_of(labels, seed=3)
    keep = np.random.default_rng(1).permutation(len(queries))[:200]
    keep = np.concatenate([keep, keep[:20]])
    return vectors, queries[keep], positives[keep]


def test_lw_is_that_of_explicit_sums(uneven_pairs):
    vectors, queries, positives = uneven_pairs
    mean, expected = reference_lw(vectors, list(zip(queries.tolist(), positives.tolist(), strict=True)))
    fitted = fit_pairs(vectors, queries, positives, shrinkage=0.0)
    np.testing.assert_allclose(fitted.mean, mean, atol=1e-6)
    np.testing.assert_allclose(up_to_sign(fitted.projection, expected), expected, rtol=1e-3, atol=1e-4)
    assert fitted.facts["jitter"] == 0 and fitted.facts["pairs"] == 220


def test_lw_is_the_generalised_eigenproblem_of_scipy(uneven_pairs):
    linalg = pytest.importorskip("scipy.linalg")
    vectors, queries, positives = uneven_pairs
    exact = vectors.astype(np.float64)
    difference, centred = exact[queries] - exact[positives], exact - exact[queries].mean(axis=0)
    expected = linalg.eigh(centred.T @ centred, difference.T @ difference / len(queries))[1].T[::-1]
    found = fit_pairs(vectors, queries, positives, shrinkage=0.0).projection
    np.testing.assert_allclose(up_to_sign(found, expected), expected, rtol=1e-3, atol=1e-4)


def test_lw_makes_the_pairs_scatter_the_identity_and_the_total_one_diagonal_and_falling(uneven_pairs):
    vectors, queries, positives = uneven_pairs
    whitened = before_length(fit_pairs(vectors, queries, positives, shrinkage=0.0), vectors)
    difference = whitened[queries] - whitened[positives]
    np.testing.assert_allclose(difference.T @ difference / len(queries), np.eye(8), atol=1e-3)
    total = whitened.T @ whitened / len(whitened)
    np.testing.assert_allclose(total, np.diag(np.diag(total)), atol=1e-3)
    assert (np.diff(np.diag(total)) < 0).all()


@pytest.mark.parametrize("shrinkage", [0.1, 2.0])
def test_shrunk_lw_equalises_the_scatter_of_the_formula(uneven_pairs, shrinkage):
    vectors, queries, positives = uneven_pairs
    exact = vectors.astype(np.float64)
    scatter = (exact[queries] - exact[positives]).T @ (exact[queries] - exact[positives]) / len(queries)
    shrunk = scatter + shrinkage * np.linalg.eigvalsh(scatter).mean() * np.eye(8)  # 8 dimensions are fewer than 20
    projection = fit_pairs(vectors, queries, positives, shrinkage=shrinkage).projection
    np.testing.assert_allclose(projection @ shrunk @ projection.T, np.eye(8), atol=1e-3)


def test_lw_of_pairs_without_a_common_photo_is_that_of_explicit_sums_too():
    vectors, _ = labelled()
    rows = np.random.default_rng(2).permutation(600)[:500]
    mean, expected = reference_lw(vectors, list(zip(rows[:250].tolist(), rows[250:].tolist(), strict=True)))
    fitted = fit_pairs(vectors, rows[:250], rows[250:], shrinkage=0.0)
    np.testing.assert_allclose(fitted.mean, mean, atol=1e-6)
    np.testing.assert_allclose(up_to_sign(fitted.projection, expected), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("alone", [0, 37])
@pytest.mark.parametrize("shared", [False, True])
def test_the_total_scatter_made_from_pairs_is_that_of_all_photos(alone, shared):
    vectors, _ = labelled(count=9000 + alone)
    rows = np.random.default_rng(2).permutation(9000 + alone)[:9000]
    queries, positives = rows[:4500], rows[4500:].copy()
    if shared:
        positives[0] = queries[1]
    centre = vectors[queries].mean(axis=0, dtype=np.float64)
    within, total = pair_and_total_scatter(vectors, queries, positives, centre)
    centred = vectors.astype(np.float64) - centre
    np.testing.assert_allclose(total, centred.T @ centred / len(vectors), rtol=1e-9, atol=1e-12)
    difference = centred[queries] - centred[positives]
    np.testing.assert_allclose(within, difference.T @ difference / 4500, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("width", [1, 64, 65, 300])
def test_triangular_systems_are_solved(width):
    rng = np.random.default_rng(0)
    factor, right = np.tril(rng.normal(size=(width, width))) + 20 * np.eye(width), rng.normal(size=(width, 3))
    given = right.copy()
    np.testing.assert_allclose(factor @ forward(factor, right), right, atol=1e-10)
    np.testing.assert_array_equal(right, given)


def test_a_singular_scatter_gets_the_first_jitter_that_makes_it_positive_definite():
    matrix = np.diag([1.0, 0.5, -5e-9])
    projection, jitter = equalise(matrix, np.eye(3))
    assert jitter == pytest.approx(1e-8)
    np.testing.assert_allclose(projection @ (matrix + jitter * np.eye(3)) @ projection.T, np.eye(3), atol=1e-6)
    assert equalise(np.diag([1.0, 0.5, 1e-4]), np.eye(3))[1] == 0


def test_a_dimension_in_which_pairs_never_differ_gets_jitter_and_is_told():
    vectors, labels = labelled()
    vectors[:, 3] = 0.25
    fitted = whitening.fit("lw", vectors, labels, shrinkage=0.0)
    assert fitted.facts["jitter"] == pytest.approx(1e-10)
    assert np.isfinite(fitted.apply(vectors)).all()
    assert any("jitter 1e-10" in line for line in whitening.summary_lines(fitted.facts))


@pytest.mark.parametrize("method", whitening.METHODS)
@pytest.mark.parametrize("shrinkage", [0.0, 0.3])
def test_fewer_samples_than_dimensions_give_finite_unit_descriptors(method, shrinkage):
    vectors = samples(count=6, width=12)
    fitted = whitening.fit(method, vectors, np.array([0, 0, 1, 1, 2, 2]), shrinkage=shrinkage)
    found = fitted.apply(samples(seed=1))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    few = any("6 descriptors are few for 12 dimensions" in line for line in whitening.summary_lines(fitted.facts))
    assert few == (shrinkage == 0)


def test_discriminative_whitening_makes_the_scatter_within_instances_the_identity():
    vectors, labels = labelled()
    whitened = before_length(fit_discriminative(vectors, labels, shrinkage=0.0, total_share=0.0), vectors)
    around = np.concatenate([whitened[labels == label] - whitened[labels == label].mean(0) for label in range(40)])
    np.testing.assert_allclose(around.T @ around / len(around), np.eye(8), atol=1e-3)
    total = np.cov(whitened.T, bias=True)
    np.testing.assert_allclose(total, np.diag(np.diag(total)), atol=1e-3)
    assert (np.diff(np.diag(total)) < 0).all()


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


def test_scatters_of_more_rows_than_a_block_are_those_of_all_rows():
    vectors, labels = labelled(count=9001)
    exact = vectors.astype(np.float64)
    np.testing.assert_allclose(total_scatter(vectors)[0], np.cov(exact.T, bias=True), rtol=1e-6)
    within = sum(np.cov(exact[labels == label].T, bias=True) * (labels == label).sum() for label in range(40)) / 9001
    np.testing.assert_allclose(within_scatter(vectors, labels), within, rtol=1e-6)
    queries, positives = pairs_of(labels)
    difference = exact[queries] - exact[positives]
    np.testing.assert_allclose(pair_scatter(vectors, queries, positives), difference.T @ difference / 9001, rtol=1e-6)


def test_a_file_gives_back_the_whitening_and_its_facts(tmp_path):
    vectors, labels = labelled()
    fitted = whitening.fit("lw", vectors, labels, shrinkage=0.5)
    fitted.save(tmp_path / "w.npz")
    loaded = Whitening.load(tmp_path / "w.npz")
    np.testing.assert_array_equal(loaded.apply(vectors), fitted.apply(vectors))
    assert loaded.facts == json.loads(json.dumps(fitted.facts))
    assert loaded.facts["method"] == "lw" and loaded.facts["shrinkage"] == 0.5 and loaded.facts["samples"] == 600
    np.savez(tmp_path / "plain.npz", mean=fitted.mean.astype(np.float64), projection=fitted.projection)
    plain = Whitening.load(tmp_path / "plain.npz")
    assert plain.facts == {} and plain.mean.dtype == np.float32


@pytest.fixture(scope="module")
def folded():
    """A network, descriptors of 20 photos by it, a fitted whitening, and the network with it folded in."""
    network = build_descriptor(DescriptorConfig(backbone="small_resnet"))
    photos = np.random.default_rng(0).integers(0, 256, (20, 40, 48, 3), np.uint8)
    plain = np.asarray(network(photos))
    fitted = fit_pca(plain, dimension=7)
    return photos, plain, fitted, add_whitening(network, fitted)


def test_a_network_with_the_whitening_folded_in_gives_the_whitened_descriptors(folded, tmp_path):
    photos, plain, fitted, network = folded
    np.testing.assert_allclose(np.asarray(network(photos)), fitted.apply(plain), atol=2e-4)
    network.save(tmp_path / "folded.keras")
    loaded = load_descriptor(tmp_path / "folded.keras")
    np.testing.assert_allclose(np.asarray(loaded(photos)), fitted.apply(plain), atol=2e-4)
    with pytest.raises(InputError, match="whitening already"):
        add_whitening(network, fit_pca(np.asarray(network(photos))))


def test_the_folded_layer_is_an_ordinary_dense_one_that_learns(folded):
    photos, _, fitted, network = folded
    layer = network.get_layer("whitening")
    assert type(layer) is keras.layers.Dense and layer.trainable
    np.testing.assert_array_equal(layer.kernel.numpy(), fitted.projection.T)
    np.testing.assert_allclose(layer.bias.numpy(), -fitted.projection @ fitted.mean, rtol=1e-5, atol=1e-5)
    before = [weight.numpy() for weight in layer.weights]
    network.compile(keras.optimizers.SGD(0.1), "mse")
    network.train_on_batch(photos[:4], np.eye(7, dtype=np.float32)[:4])
    assert all((weight.numpy() != was).any() for weight, was in zip(layer.weights, before, strict=True))


@pytest.mark.parametrize(
    ("vectors", "flags", "sentence"),
    [
        (samples(count=1), {}, "two or more"),
        (samples()[0], {}, r"shape \(12,\)"),
        (samples(), {"dimension": 13}, "--dimension=13; 1 to 12 dimensions"),
        (samples(), {"shrinkage": -1.0}, "--shrinkage=-1.0"),
        (samples(), {"shrinkage": float("nan")}, "--shrinkage=nan"),
        (samples(), {"shrinkage": float("inf")}, "--shrinkage=inf"),
        (np.where(np.arange(400)[:, None] == 7, np.nan, samples()), {}, "row 7 holds NaN or infinity"),
    ],
)
@pytest.mark.parametrize("method", ["pca", "lw", "discriminative"])
def test_what_cannot_be_fitted_is_refused_by_every_method(method, vectors, flags, sentence):
    rows, labels = np.arange(0, len(vectors) - 1), np.arange(len(vectors)) // 2
    given = {"pca": (), "lw": (rows, rows + 1), "discriminative": (labels,)}[method]
    fit = {"pca": fit_pca, "lw": fit_pairs, "discriminative": fit_discriminative}[method]
    with pytest.raises(InputError, match=sentence):
        fit(vectors, *given, **flags)


@pytest.mark.parametrize(
    ("attempt", "sentence"),
    [
        (lambda: fit_pca(samples(), power=1.5), "--power=1.5; a number from 0 to 1"),
        (lambda: fit_discriminative(samples(), np.arange(400)), "each of the 400 instances has one descriptor"),
        (lambda: fit_discriminative(samples(), np.zeros(3, int)), "3 labels stand beside 400 descriptors"),
        (lambda: fit_discriminative(samples(), np.zeros(400, int), total_share=-1), "--total_share=-1"),
        (lambda: fit_pairs(samples(), [], []), "0 queries and 0 positives"),
        (lambda: fit_pairs(samples(), [0, 1], [1]), "2 queries and 1 positives"),
        (lambda: fit_pairs(samples(), [0], [400]), "rows 400 to 400; 0 to 399"),
        (lambda: fit_pairs(np.ones((4, 3), np.float32), [0], [1]), "equal descriptors throughout"),
        (lambda: whitening.fit("zca", samples()), "--method=zca is unknown"),
        (lambda: whitening.fit("lw", samples()), "--method=lw needs pairs"),
        (lambda: whitening.fit("discriminative", samples()), "--method=discriminative needs instances"),
        (lambda: whitening.fit("pca", samples(), dimension=13), "--dimension=13"),
    ],
)
def test_what_does_not_fit_together_is_named(attempt, sentence):
    with pytest.raises(InputError, match=sentence):
        attempt()


def test_a_whitening_for_another_dimension_and_broken_files_are_named(tmp_path):
    with pytest.raises(InputError, match="256 dimensions and the whitening takes 12"):
        add_whitening(build_descriptor(DescriptorConfig(backbone="small_resnet")), fit_pca(samples()))
    fit_pca(samples()).save(tmp_path / "good.npz")
    content = (tmp_path / "good.npz").read_bytes()
    np.save(tmp_path / "array.npy", np.ones(3))
    np.savez(tmp_path / "other.npz", mean=np.ones(3))
    np.savez(tmp_path / "objects.npz", mean=np.array([None, 1], dtype=object), projection=np.ones((1, 2)))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    for name, data in {"empty": b"", "cut": content[: len(content) // 2], "text": b"mean"}.items():
        (tmp_path / f"{name}.npz").write_bytes(data)
    for name in ("empty", "cut", "text", "array", "other", "objects", "absent"):
        with pytest.raises(InputError, match=rf"{name}\.npz is not a whitening"):
            Whitening.load(tmp_path / f"{name}.npz")
    np.savez(tmp_path / "nan.npz", mean=np.full(3, np.nan), projection=np.ones((1, 3)))
    with pytest.raises(InputError, match=r"nan\.npz: a whitening holds NaN"):
        Whitening.load(tmp_path / "nan.npz")
