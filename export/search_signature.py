"""The signature `search`: photos' bytes in, the most similar indexed photos out."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from export.search_index import INDEXES, IndexSettings, best, recall
from tfretrieval import files
from tfretrieval.descriptors import Descriptors
from tfretrieval.errors import InputError

SEARCH = "search"
DEFAULT_K = 10


class ServedSearch(tf.Module):
    """An index of saved descriptors behind the signature `search`.

    Args:
        settings: the index.
        describe: from `image_bytes` string [N] to `descriptors` float32 [N, D] by name.
        dimension: D.
        model_sha256: hash of the network that is exported.

    Attributes:
        search: the signature's function: `image_bytes` string [N] and `k`, int32 scalar, which a request may leave out,
            to `ids` string [N, K] and `scores` float32 [N, K], best first, K = min(k, photos indexed).
        card: what the model's card tells of the index.

    Raises:
        InputError: the descriptors cannot be read, are of another network or dimension, or there are none.
    """

    def __init__(
        self, settings: IndexSettings, describe: Callable[[tf.Tensor], dict], dimension: int, model_sha256: str
    ):
        super().__init__(name="search")
        saved = _load(settings, dimension, model_sha256)
        vectors = np.asarray(saved.vectors)
        self._ids, self._index = tf.constant(saved.ids), INDEXES[settings.index_kind](vectors, settings)
        self._describe = describe
        self.card = {
            "kind": settings.index_kind,
            "photos": len(saved),
            "default_k": DEFAULT_K,
            "records": (saved.meta.get("data") or {}).get("records"),
            "vectors_sha256": files.sha256(Path(settings.index) / "vectors.npy"),
            "bytes": sum(variable.numpy().nbytes for variable in self._index.variables),
            "recall_against_exact": recall(self._index, vectors),
        }
        default = tf.constant(DEFAULT_K, tf.int32)  # as a tensor, it becomes the signature's own default

        def search(image_bytes, k=default):
            return self._search(image_bytes, k)

        spec = [tf.TensorSpec([None], tf.string, name="image_bytes"), tf.TensorSpec([], tf.int32, name="k")]
        self.search = tf.function(search, input_signature=spec)

    def _search(self, image_bytes: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
        told = tf.strings.format("k: {}; at least 1 is wanted", k)
        with tf.control_dependencies([tf.debugging.Assert(k >= 1, [told])]):
            rows, scores = best(self._index, self._describe(image_bytes)["descriptors"], tf.identity(k))
        return {"ids": tf.gather(self._ids, rows), "scores": scores}


def _load(settings: IndexSettings, dimension: int, model_sha256: str) -> Descriptors:
    saved = Descriptors.load(settings.index)
    if not len(saved):
        raise InputError(f"--index={settings.index} holds no descriptors; some are wanted.")
    if saved.vectors.shape[1] != dimension:
        raise InputError(
            f"--index={settings.index} has {saved.vectors.shape[1]} dimensions and the network gives {dimension}; "
            "descriptors of the network are wanted."
        )
    made_by = saved.meta.get("model_sha256")
    if made_by and made_by != model_sha256:
        raise InputError(
            f"--index={settings.index} was made with the model {made_by[:12]}... and {model_sha256[:12]}... is "
            "exported; descriptors of the same model are wanted."
        )
    if not np.isfinite(saved.vectors).all():
        raise InputError(f"--index={settings.index} holds numbers that are not finite.")
    return saved
