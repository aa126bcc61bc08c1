"""Linear maps from one network's descriptors to another's: where a student's last layer begins, and how it ends."""

import dataclasses

import numpy as np

from tfretrieval.errors import InputError
from tfretrieval.whitening.linear import Whitening

RIDGE = 0.3
# What `align` tries, from hardly any ridge to nearly the student as it is.
RIDGES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
FOLDS = 5


def fit_to_teacher(
    student: np.ndarray, teacher: np.ndarray, ridge: float = RIDGE, near_student: bool = False
) -> Whitening:
    """Fits the map that brings a student's descriptors nearest to a teacher's of the same photos.

    W = argmin sum_i ||W s_i - t_i||^2 + ridge * sum_i ||s_i||^2 * ||W - W0||^2 / N: ridge regression without an offset,
    solved in N or in D unknowns, whichever are fewer. W0 is zero, or the identity for a student that is much like its
    teacher already. That a student begins from it is this toolkit's.

    Args:
        student: float32 [N, D].
        teacher: float32 [N, Dt], with Dt <= D, of the same photos in the same order.
        ridge: share of the mean squared length that is added to every variance, > 0.
        near_student: W0 is the identity; Dt = D is wanted.

    Returns:
        A whitening from D to Dt with the mean 0, which `DescriptorConfig.whitening_file` takes.

    Raises:
        InputError: the matrices do not fit, hold NaN or infinity, or the ridge is not above 0.
    """
    if student.ndim != 2 or teacher.ndim != 2 or not 0 < len(student) == len(teacher):
        raise InputError(
            f"descriptors of shape {student.shape} and {teacher.shape} were given; [N, D] and [N, Dt] of the same "
            "photos are wanted."
        )
    if teacher.shape[1] > student.shape[1]:
        raise InputError(
            f"the teacher has {teacher.shape[1]} dimensions and the student {student.shape[1]}; no more than the "
            "student's are wanted."
        )
    if near_student and teacher.shape[1] != student.shape[1]:
        raise InputError(
            f"the teacher has {teacher.shape[1]} dimensions and the student {student.shape[1]}; as many are wanted of "
            "one that is near to it."
        )
    if not 0 < ridge < np.inf:
        raise InputError(f"ridge={ridge} was given; a number above 0 is wanted.")
    s, t = student.astype(np.float64), teacher.astype(np.float64)
    if not (np.isfinite(s).all() and np.isfinite(t).all()):
        raise InputError("descriptors hold NaN or infinity; finite ones are wanted.")
    wanted = t - s if near_student else t
    added = ridge * np.square(s).sum() / len(s)
    if len(s) < s.shape[1]:
        weights = s.T @ np.linalg.solve(s @ s.T + added * np.eye(len(s)), wanted)
    else:
        weights = np.linalg.solve(s.T @ s + added * np.eye(s.shape[1]), s.T @ wanted)
    if near_student:
        weights += np.eye(len(weights))
    facts = {"method": "to_teacher", "samples": len(s), "ridge": ridge}
    return Whitening(np.zeros(s.shape[1], np.float32), weights.T.astype(np.float32), facts)


def align(student: np.ndarray, teacher: np.ndarray, seed: int = 0) -> Whitening:
    """Fits the map that makes a trained student's descriptors fit an index of its teacher, with a ridge chosen here.

    The map is `fit_to_teacher` near the student, on descriptors of unit length. The ridge is the one of `RIDGES` that
    brings photos left out of the fit nearest to their teacher vectors in mean cosine, in five parts of the photos drawn
    by chance; no map at all is among what is tried. Neither labels nor queries are needed: what is learned is how the
    student errs on photos of the index's kind. This toolkit's; the plain least-squares map between the descriptors of
    two networks is common for backward compatibility.

    Args:
        student: float32 [N, D], of the index's photos or a sample of them, N of at least 10.
        teacher: float32 [N, D], the index's descriptors of the same photos in the same order.
        seed: draws the parts.

    Returns:
        A whitening from D to D with the mean 0; its facts tell the ridge (None for no map) and the mean cosine of
        photos left out, before and after.

    Raises:
        InputError: see `fit_to_teacher`; or fewer than ten photos.
    """
    if len(student) < 2 * FOLDS:
        raise InputError(f"descriptors of {len(student)} photos were given; at least {2 * FOLDS} are wanted.")
    identity = Whitening(np.zeros(student.shape[1], np.float32), np.eye(student.shape[1], dtype=np.float32), {})
    fit_to_teacher(student, teacher, RIDGES[0], near_student=True)  # refuses what does not fit
    student, teacher = _unit(student), _unit(teacher)
    part = np.random.default_rng(seed).permutation(len(student)) % FOLDS
    cosines: dict[float | None, float] = {None: _cosine(identity, student, teacher)}
    for ridge in RIDGES:
        left_out = np.empty(len(student))
        for number in range(FOLDS):
            out = part == number
            fitted = fit_to_teacher(student[~out], teacher[~out], ridge, near_student=True)
            left_out[out] = np.sum(fitted.apply(student[out]) * teacher[out], axis=1)
        cosines[ridge] = float(left_out.mean())
    best = max(cosines, key=cosines.get)
    found = identity if best is None else fit_to_teacher(student, teacher, best, near_student=True)
    facts = {
        "method": "align", "samples": len(student), "ridge": best, "seed": seed,
        "cosine_before": cosines[None], "cosine_after": cosines[best],
    }  # fmt: skip
    return dataclasses.replace(found, facts=facts)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _cosine(fitted: Whitening, student: np.ndarray, teacher: np.ndarray) -> float:
    return float(np.mean(np.sum(fitted.apply(student) * teacher, axis=1)))
