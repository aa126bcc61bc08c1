import json

import numpy as np
import pytest

from tfretrieval.errors import InputError
from tfretrieval.search.neighbour_lists import NeighbourLists
from tfretrieval.search.ranking import Ranking

RANKING = Ranking(np.array([[1, 2], [0, 2], [1, 0]], np.int32), np.array([[0.5, 0.25]] * 3, np.float32))


def test_what_is_saved_is_loaded(tmp_path):
    NeighbourLists(RANKING, ("a b", "ü/\u2028c", "d"), {"k": 2}).save(tmp_path / "graph")
    loaded = NeighbourLists.load(tmp_path / "graph")
    np.testing.assert_array_equal(loaded.ranking.order, RANKING.order)
    np.testing.assert_array_equal(loaded.ranking.similarity, RANKING.similarity)
    assert loaded.ids == ("a b", "ü/\u2028c", "d")
    assert loaded.meta == {"k": 2}
    assert isinstance(loaded.ranking.order, np.memmap)


def test_what_does_not_fit_together_is_refused(tmp_path):
    with pytest.raises(InputError, match="2 ids stand beside neighbours of 3 photos"):
        NeighbourLists(RANKING, ("a", "b"))
    with pytest.raises(InputError, match="int64 with float32"):
        NeighbourLists(Ranking(RANKING.order.astype(np.int64), RANKING.similarity), ("a", "b", "c"))
    with pytest.raises(InputError, match=r"meta\.json is missing"):
        NeighbourLists.load(tmp_path)
    NeighbourLists(RANKING, ("a", "b", "c")).save(tmp_path / "graph")
    (tmp_path / "graph" / "order.npy").write_bytes(b"short")
    with pytest.raises(InputError, match="does not hold readable neighbours"):
        NeighbourLists.load(tmp_path / "graph")
    assert json.loads((tmp_path / "graph" / "meta.json").read_text()) == {}
