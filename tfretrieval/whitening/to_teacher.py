"""The linear map from one network's descriptors to another's, in closed form: where a student's last layer begins."""

import numpy as np

from tfretrieval.errors import InputError
from tfretrieval.whitening.linear import Whitening

RIDGE = 0.3


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
