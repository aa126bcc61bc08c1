"""An in-batch loss over the photos of tuples, so that it combines with tuple losses."""

import keras
from keras import ops

from tfretrieval.losses.composite import Wrapper


@keras.saving.register_keras_serializable(package="tfretrieval")
class PhotosOfTuples(Wrapper):
    """Takes the photos of all tuples as one batch; `y_true` is labels [T * (2 + N)], `y_pred` is [T, 2 + N, D].

    Training with tuples knows the instance of each photo in them, so that classification and ranking see the same
    photos. A photo that is in several tuples counts as often.

    Args:
        loss: an in-batch loss.
    """

    def __init__(self, loss: keras.losses.Loss, name: str | None = None, **kwargs):
        super().__init__(loss, name=name or loss.name, **kwargs)

    def call(self, y_true, y_pred):
        """Returns the loss of the batch of photos, float32 scalar."""
        return self.loss(ops.reshape(y_true, (-1,)), ops.reshape(y_pred, (-1, ops.shape(y_pred)[-1])))
