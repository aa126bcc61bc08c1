import numpy as np

from tfretrieval.search.candidates import Candidates
from tfretrieval.search.ranking import Ranking


def candidates(order, similarity):
    ranking = Ranking(np.array(order, np.int32), np.array(similarity, np.float32))
    return Candidates(np.zeros((len(order), 2), np.float32), np.zeros((9, 2), np.float32), ranking)


def test_photos_put_first_push_the_others_back_in_their_order():
    given = candidates([[4, 2, 7, 0, 5], [1, 0, 2, 3, 4]], [[0.9, 0.8, 0.7, 0.6, -np.inf], [0.5, 0.4, 0.3, 0.2, 0.1]])
    found = given.reordered([np.array([7, 8, 4]), np.array([], int)], [np.array([3.0, 5.0, 3.0]), np.array([])])
    # 8 was not among the first five: the last of them leaves. Equal scores stay in the order given.
    assert found.ranking.order.tolist() == [[8, 7, 4, 2, 0], [1, 0, 2, 3, 4]]
    np.testing.assert_allclose(found.ranking.similarity[0], [5, 3, 3, 0.8, 0.6])
    np.testing.assert_array_equal(found.ranking.similarity[1], given.ranking.similarity[1])
    assert given.ranking.order[0, 0] == 4  # what was given is as before


def test_similarities_behind_are_shifted_below_small_scores_and_junk_stays_infinitely_far():
    given = candidates([[4, 2, 7, 0]], [[0.9, 0.8, 0.7, -np.inf]])
    found = given.reordered([np.array([2])], [np.array([-5.0])])
    assert found.ranking.order.tolist() == [[2, 4, 7, 0]]
    np.testing.assert_allclose(found.ranking.similarity, [[-5, -5, -5.2, -np.inf]], rtol=1e-6)
    assert (np.diff(found.ranking.similarity) <= 0).all()


def test_more_photos_than_places_keep_the_best():
    found = candidates([[4, 2]], [[0.9, 0.8]]).reordered([np.array([5, 6, 7])], [np.array([1.0, 3.0, 2.0])])
    assert found.ranking.order.tolist() == [[6, 7]] and found.ranking.similarity.tolist() == [[3, 2]]


def test_first_photos_leave_junk_out():
    given = candidates([[4, 2, 7, 0]], [[0.9, 0.8, -np.inf, -np.inf]])
    assert [rows.tolist() for rows in given.first(3)] == [[4, 2]]
    assert [rows.tolist() for rows in given.first(1)] == [[4]]
