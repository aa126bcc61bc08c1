import numpy as np
import pytest

from tfretrieval.errors import InputError
from tfretrieval.whitening import Whitening
from tfretrieval.whitening.to_teacher import fit_to_teacher


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
