import math
import random
import re

import numpy as np
import pytest

from tfretrieval.data.landmark_files import Solution, read_solution
from tfretrieval.errors import InputError
from tfretrieval.evaluation import landmarks

# Photos of the test, and of the index.
A, B, C, D, E, F = (f"{letter}000000000000000" for letter in "abcdef")
X, Y, Z, W, V = (f"{number}000000000000000" for number in "12345")

RECOGNITION = f"""id,landmarks,Usage
{A},7,Public
{B},,Public
{C},7 9,Public
{D},8,Public
{E},5,Private
{F},100,Ignored
"""
RETRIEVAL = f"""id,images,Usage
{A},{X} {Y},Public
{B},{Z},Public
{C},{X} {Y} {Z} {W},Private
{D},None,Ignored
"""


def write(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    return path


def scored(tmp_path, task, solution, predictions):
    told = read_solution(write(tmp_path, "solution.csv", solution), task)
    read = landmarks.read_predictions(write(tmp_path, "predictions.csv", predictions), told, task)
    return landmarks.score(read, told, task)


def test_recognition_worked_by_hand(tmp_path):
    """Public, by score: B 0.9 wrong (no landmark), A 0.8 right, C 0.8 right (tie: after A), D has no prediction."""
    predictions = f"id,landmarks\n{C},9 0.8\n{A},07 0.8 \n\n{B},7 0.9\n{D},\n{F},100 5\n{E},4 0.1\n"
    found = scored(tmp_path, "recognition", RECOGNITION, predictions)
    assert found["public"]["gap"] == pytest.approx((1 / 2 + 2 / 3) / 3, abs=1e-15)
    assert found["public"]["gap_landmarks_only"] == pytest.approx((1 + 1) / 3, abs=1e-15)
    assert found["public"]["top1_accuracy"] == pytest.approx(2 / 3, abs=1e-15)
    assert [found["public"][name] for name in ("photos", "predictions", "photos_with_landmark")] == [4, 3, 3]
    assert (found["private"]["gap"], found["private"]["top1_accuracy"]) == (0, 0)
    assert found["all"]["gap"] == pytest.approx((1 / 2 + 2 / 3) / 4, abs=1e-15)
    assert found["all"]["photos"] == 5  # the ignored one is in no part


def test_ties_are_ranked_by_the_photos_id():
    truths = {A: ("1",), B: ("1",)}
    assert landmarks.global_average_precision({B: ("2", 0.5), A: ("1", 0.5)}, truths) == 1 / 2
    assert landmarks.global_average_precision({B: ("1", 0.5), A: ("2", 0.5)}, truths) == (1 / 2) / 2


def test_retrieval_worked_by_hand(tmp_path):
    """A: hit, repeated hit (nothing, but a place), wrong, hit; B has no prediction; C finds one of four, third."""
    predictions = f"id,images\n{A},{X} {X} {V} {Y} \n{C},{V} {B} {W}\n{D},{X}\n"
    found = scored(tmp_path, "retrieval", RETRIEVAL, predictions)
    ap_a, ap_c = (1 + 2 / 4) / 2, (1 / 3) / 4
    assert found["public"]["map@100"] == pytest.approx((ap_a + 0) / 2, abs=1e-15)
    assert found["private"]["map@100"] == pytest.approx(ap_c, abs=1e-15)
    assert found["all"]["map@100"] == pytest.approx((ap_a + ap_c) / 3, abs=1e-15)
    precision = found["public"]["mean_precision"]
    assert len(precision) == 100
    assert precision[:5] == pytest.approx([1 / 2, 1 / 4, 1 / 6, 1 / 4, 1 / 5], abs=1e-15)
    assert precision[99] == pytest.approx(2 / 100 / 2, abs=1e-15)  # past the end of the list
    assert (found["public"]["mean_first_position"], found["public"]["median_first_position"]) == ((1 + 101) / 2, 51.0)
    assert (found["all"]["mean_first_position"], found["all"]["median_first_position"]) == ((1 + 101 + 3) / 3, 3.0)
    assert (found["public"]["photos"], found["public"]["predictions"]) == (2, 1)


def test_the_places_after_the_hundredth_do_not_count():
    many = tuple(f"{number:016d}" for number in range(250))
    assert landmarks.average_precision(many, many) == 1  # min(250, 100) expected
    assert landmarks.average_precision(many[:50], many) == pytest.approx(50 / 100)
    late = (*(X for _ in range(100)), Y)
    assert landmarks.average_precision(late, (Y,)) == 0
    assert landmarks.first_positions({A: late}, {A: (Y,)}) == [101]
    assert landmarks.first_positions({A: late[1:]}, {A: (Y,)}) == [100]


def test_photos_without_a_right_answer_score_nothing_and_stay_in_the_mean():
    assert landmarks.average_precision((X,), ()) == 0
    assert landmarks.mean_average_precision({A: (X,), B: (Y,)}, {A: (), B: (Y,)}) == 1 / 2
    assert landmarks.first_positions({A: (X,)}, {A: ()}) == [101]


def test_what_cannot_be_found_has_no_score(tmp_path):
    truths = {A: (), B: ()}
    assert math.isnan(landmarks.global_average_precision({A: ("1", 0.5)}, truths))
    assert math.isnan(landmarks.top1_accuracy({A: ("1", 0.5)}, truths))
    found = scored(tmp_path, "recognition", f"id,landmarks,Usage\n{A},,Public\n{B},1,Private\n", "id,landmarks\n")
    assert found["public"]["gap"] is None and found["public"]["top1_accuracy"] is None
    assert found["private"]["gap"] == 0 and found["all"]["gap"] == 0
    found = scored(tmp_path, "retrieval", f"id,images,Usage\n{A},{X},Public\n", "id,images\n")
    assert list(found) == ["public", "all"]  # no private row, no private figures
    assert found["all"]["map@100"] == 0 and found["all"]["mean_precision"] == [0.0] * 100


def loop_gap(predictions, truths, landmarks_only):
    rows = [(-score, photo, landmark) for photo, (landmark, score) in predictions.items()]
    gap = seen = right = 0
    for _, photo, landmark in sorted(rows):
        if landmarks_only and truths[photo] == ():
            continue
        seen = seen + 1
        if landmark in truths[photo]:
            right = right + 1
            gap = gap + right / seen
    with_landmark = 0
    for truth in truths.values():
        if truth != ():
            with_landmark = with_landmark + 1
    return gap / with_landmark


def loop_retrieval(predictions, truths, depth):
    """mAP, precisions and first positions, place by place."""
    aps, firsts = [], []
    precisions = [0.0] * depth
    for photo, right in truths.items():
        ap, count, first, before = 0.0, 0, depth + 1, []
        ranked = predictions.get(photo, ())
        for place in range(1, depth + 1):
            shown = ranked[place - 1] if place <= len(ranked) else None
            if shown in right and shown not in before:
                count += 1
                ap += count / place
                first = min(first, place)
            before.append(shown)
            precisions[place - 1] += count / place / len(truths)
        aps.append(ap / min(len(right), depth) if right else 0)
        firsts.append(first)
    return sum(aps) / len(aps), precisions, firsts


@pytest.mark.parametrize("seed", range(30))
def test_equal_to_an_explicit_loop_on_random_predictions(seed):
    rng = random.Random(seed)
    photos = [f"q{number:03d}" for number in range(rng.randrange(2, 40))]
    truths = {photo: tuple(rng.sample("123456", rng.choice([0, 0, 1, 2]))) for photo in photos}
    truths[photos[0]] = ("1",)
    recognised = {
        photo: (rng.choice("123456"), rng.choice([0.1, 0.5, 0.5, 2.0, -1.0])) for photo in photos if rng.random() < 0.8
    }
    for only in (False, True):
        found = landmarks.global_average_precision(recognised, truths, only)
        assert found == pytest.approx(loop_gap(recognised, truths, only), abs=1e-12)
    index = [f"i{number:03d}" for number in range(60)]
    right = {photo: tuple(rng.sample(index, rng.randrange(30))) for photo in photos}
    retrieved = {photo: tuple(rng.choices(index, k=rng.randrange(1, 40))) for photo in photos if rng.random() < 0.8}
    for depth in (1, 10, 100):
        mean, precisions, firsts = loop_retrieval(retrieved, right, depth)
        assert landmarks.mean_average_precision(retrieved, right, depth) == pytest.approx(mean, abs=1e-12)
        np.testing.assert_allclose(landmarks.mean_precisions(retrieved, right, depth), precisions, atol=1e-12)
        assert landmarks.first_positions(retrieved, right, depth) == firsts


@pytest.mark.parametrize(
    ("task", "text", "sentence"),
    [
        ("recognition", f"id,images\n{A},7 0.5\n", "lacks the column 'landmarks'"),
        ("recognition", f"id,landmarks\n{A},7 0.5\n{A},8 0.6\n", f"line 3: id is '{A}', as on line 2; one prediction"),
        ("recognition", f"id,landmarks\n{A},7 0.5\n{A},\n", f"line 3: id is '{A}', as on line 2; one prediction"),
        ("recognition", f"id,landmarks\n{X},7 0.5\n", f"line 2: id is '{X}', which the solution does not have"),
        ("recognition", f"id,landmarks\n{A},7\n", "line 2: landmarks is '7'; a landmark and its score"),
        ("recognition", f"id,landmarks\n{A},7 0.5 8 0.4\n", "line 2: landmarks is '7 0.5 8 0.4'; a landmark and"),
        ("recognition", f"id,landmarks\n{A},7  0.5\n", "line 2: landmarks is '7  0.5'; a landmark and"),
        ("recognition", f"id,landmarks\n{A},7 nan\n", "line 2: landmarks is '7 nan'; a landmark and"),
        ("recognition", f"id,landmarks\n{A},x 0.5\n", "line 2: landmarks is 'x'; a whole number"),
        ("retrieval", f"id,images\n{A},{X}\n{A},{Y}\n", f"line 3: id is '{A}', as on line 2; one prediction"),
        ("retrieval", f"id,images\n{X},{Y}\n", f"line 2: id is '{X}', which the solution does not have"),
        ("retrieval", f"id,images\n{A},{X}  {Y}\n", "line 2: images is ''; a photo's id"),
        ("retrieval", f"id,images\n{A},{X},{Y}\n", "line 2 has 3 fields; 2"),
    ],
)
def test_a_fault_of_predictions_is_named(tmp_path, task, text, sentence):
    text_of = {"recognition": RECOGNITION, "retrieval": RETRIEVAL}
    solution = read_solution(write(tmp_path, "solution.csv", text_of[task]), task)
    path = write(tmp_path, "predictions.csv", text)
    with pytest.raises(InputError, match=re.escape(f"{path} {sentence}")):
        landmarks.read_predictions(path, solution, task)


def test_rows_that_answer_nothing_may_repeat_or_name_strangers(tmp_path):
    """As in the official program: only a row with a prediction for a scored photo is one."""
    solution = read_solution(write(tmp_path, "solution.csv", RECOGNITION), "recognition")
    text = f"id,landmarks\n{A},\n{A},7 1\n{F},1 1\n{F},2 1\n{X},\n"
    read = landmarks.read_predictions(write(tmp_path, "p.csv", text), solution, "recognition")
    assert read == {A: ("7", 1.0)}


@pytest.mark.parametrize(
    "measure",
    [
        landmarks.global_average_precision,
        landmarks.top1_accuracy,
        landmarks.mean_average_precision,
        landmarks.mean_precisions,
        landmarks.first_positions,
    ],
)
def test_a_prediction_for_an_unknown_photo_is_refused(measure):
    with pytest.raises(InputError, match=f"a prediction is for '{B}', which the solution does not have"):
        measure({B: ("1", 0.5)}, {A: ("1",)})


def test_score_takes_predictions_of_the_solutions_photos_alone():
    solution = Solution({A: ("1",)}, {A: "public"}, frozenset(), {A: 2})
    assert landmarks.score({A: ("1", 0.5)}, solution, "recognition")["all"]["gap"] == 1
