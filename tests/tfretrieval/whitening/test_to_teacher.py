import numpy as np
import pytest

from tfretrieval.errors import InputError
from tfretrieval.whitening import Whitening
from tfretrieval.whitening.to_teacher import RIDGES, align, fit_to_teacher


def unit_rows(rng, count, dimension):
    vectors = rng.normal(size=(count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("count", [40, 5], ids=["more photos than dimensions", "fewer"])
def test_it_is_the_least_of_what_is_minimised(count):
    rng = np.random.default_rng(0)
    student, teacher = unit_rows(rng, count, 8), unit_rows(rng, count, 3)
    found = fit_to_teacher(student, teacher, ridge=0.05)
    assert found.projection.shape == (3, 8) and not found.mean.any()
    added = 0.05 * np.square(student).sum() / count

    def cost(weights):
        return sum(np.sum((weights @ s - t) ** 2) for s, t in zip(student, teacher, strict=True)) + added * np.sum(
            weights**2
        )

    least = cost(found.projection.astype(np.float64))
    for _ in range(20):
        assert cost(found.projection + 1e-2 * rng.normal(size=(3, 8))) > least
    gradient = sum(2 * np.outer(found.projection @ s - t, s) for s, t in zip(student, teacher, strict=True))
    np.testing.assert_allclose(gradient + 2 * added * found.projection, 0, atol=1e-4)


def test_a_teacher_that_is_a_linear_map_of_the_student_is_found_again(tmp_path):
    rng = np.random.default_rng(1)
    student, turn = unit_rows(rng, 200, 6), np.linalg.qr(rng.normal(size=(6, 6)))[0][:4]
    teacher = (student @ turn.T).astype(np.float32)
    fit_to_teacher(student, teacher, 1e-6).save(tmp_path / "start.npz")
    found = Whitening.load(tmp_path / "start.npz")
    wanted = teacher / np.linalg.norm(teacher, axis=1, keepdims=True)
    np.testing.assert_allclose(found.apply(student), wanted, atol=1e-4)
    assert found.facts == {"method": "to_teacher", "samples": 200, "ridge": 1e-6}


def test_near_the_student_the_identity_takes_the_place_of_zero():
    rng = np.random.default_rng(2)
    student, teacher = unit_rows(rng, 7, 5), unit_rows(rng, 7, 5)
    found = fit_to_teacher(student, teacher, 0.2, near_student=True).projection.astype(np.float64)
    added = 0.2 * np.square(student).sum() / 7
    gradient = sum(2 * np.outer(found @ s - t, s) for s, t in zip(student, teacher, strict=True))
    np.testing.assert_allclose(gradient + 2 * added * (found - np.eye(5)), 0, atol=1e-4)
    np.testing.assert_allclose(
        fit_to_teacher(student, teacher, 1e9, near_student=True).projection, np.eye(5), atol=1e-6
    )
    with pytest.raises(InputError, match="5 dimensions and the student 6; as many are wanted"):
        fit_to_teacher(unit_rows(rng, 7, 6), teacher, 0.2, near_student=True)


@pytest.mark.parametrize(
    ("student", "teacher", "ridge", "sentence"),
    [
        (np.ones((3, 4)), np.ones((2, 4)), 0.1, "of the same photos are wanted"),
        (np.ones((0, 4)), np.ones((0, 4)), 0.1, "of the same photos are wanted"),
        (np.ones((3, 4)), np.ones((3, 5)), 0.1, "the teacher has 5 dimensions and the student 4"),
        (np.ones((3, 4)), np.ones((3, 4)), 0.0, "ridge=0.0 was given; a number above 0"),
        (np.full((3, 4), np.nan), np.ones((3, 4)), 0.1, "NaN or infinity"),
    ],
)
def test_bad_input_is_one_sentence(student, teacher, ridge, sentence):
    with pytest.raises(InputError, match=sentence):
        fit_to_teacher(student.astype(np.float32), teacher.astype(np.float32), ridge)


def erring_student(rng, count=300, dimension=12):
    """A student that shrinks half of the teacher's dimensions and mixes in others, with a little noise."""
    teacher = unit_rows(rng, count, dimension)
    error = np.eye(dimension) * np.where(np.arange(dimension) < 6, 1.0, 0.4) + 0.15 * rng.normal(size=(12, 12))
    return (teacher @ error + 0.005 * rng.normal(size=teacher.shape)).astype(np.float32), teacher


def test_alignment_undoes_how_a_student_errs_on_photos_it_was_not_fitted_to():
    student, teacher = erring_student(np.random.default_rng(3))
    found = align(student[:200], teacher[:200])
    before, after = (
        np.sum(vectors * teacher[200:], axis=1).mean()
        for vectors in (
            student[200:] / np.linalg.norm(student[200:], axis=1, keepdims=True),
            found.apply(student[200:]),
        )
    )
    assert before < 0.95 and after > 0.99
    # What was seen on photos left out is what comes about on new ones.
    assert found.facts["cosine_before"] == pytest.approx(before, abs=0.01)
    assert found.facts["cosine_after"] == pytest.approx(after, abs=0.01)
    assert (found.facts["method"], found.facts["samples"]) == ("align", 200) and found.facts["ridge"] in RIDGES


def test_the_ridge_of_an_alignment_is_the_best_of_an_explicit_search():
    rng = np.random.default_rng(4)
    student, teacher = erring_student(rng, 60)
    student += 0.2 * rng.normal(size=student.shape).astype(np.float32)
    unit = student / np.linalg.norm(student, axis=1, keepdims=True)
    part, means = np.random.default_rng(7).permutation(60) % 5, {}
    for ridge in RIDGES:
        cosines = []
        for row in range(60):
            kept = part != part[row]
            fitted = fit_to_teacher(unit[kept], teacher[kept], ridge, near_student=True)
            cosines.append(float(fitted.apply(unit[row : row + 1])[0] @ teacher[row]))
        means[ridge] = np.mean(cosines)
    found = align(student, teacher, seed=7).facts
    assert found["ridge"] == max(means, key=means.get)
    assert found["cosine_after"] == pytest.approx(max(means.values()), abs=1e-5)


def test_a_student_that_no_map_helps_stays_as_it_is():
    rng = np.random.default_rng(5)
    student = unit_rows(rng, 12, 8)
    # Noise that is another for each photo: there is nothing to learn from the others.
    teacher = unit_rows(rng, 12, 8) * 0.3 + student
    found = align(student, teacher)
    np.testing.assert_array_equal(found.projection, np.eye(8))
    assert found.facts["ridge"] is None and found.facts["cosine_after"] == found.facts["cosine_before"]


def test_alignment_refuses_few_photos_and_other_dimensions():
    vectors = np.ones((9, 4), np.float32)
    with pytest.raises(InputError, match="9 photos were given; at least 10 are wanted"):
        align(vectors, vectors)
    with pytest.raises(InputError, match="3 dimensions and the student 4; as many are wanted"):
        align(np.ones((20, 4), np.float32), np.ones((20, 3), np.float32))
