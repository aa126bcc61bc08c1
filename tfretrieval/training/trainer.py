"""The training loop: plan, step, validate, checkpoint; interrupted at any instant, it goes on to the same bits."""

import dataclasses
import math
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from tfretrieval import console, files
from tfretrieval.data.augmentation import Augmentation
from tfretrieval.data.photo_store import PhotoStore
from tfretrieval.data.training_batches import training_batches
from tfretrieval.errors import InputError
from tfretrieval.extraction import Extractor
from tfretrieval.training import parameters, summaries
from tfretrieval.training.averaging import WeightAverage
from tfretrieval.training.checkpoints import Checkpoints, Progress
from tfretrieval.training.config import TrainingConfig
from tfretrieval.training.distribution import Distribution
from tfretrieval.training.instances import TrainingData
from tfretrieval.training.plans import Plans
from tfretrieval.training.run_directory import RunDirectory
from tfretrieval.training.validation import validate


class Trainer:
    """Trains one descriptor network.

    Everything random is drawn from (seed, epoch, step), and everything that training changes is in its checkpoints; so
    a run that was killed and resumed ends with the weights of one that was not, bit for bit on a CPU.

    Args:
        model: the network, with its initial weights; trained in place.
        data: the photos.
        config: the training.
        augmentation: how photos are varied.
        run: where results go.
        bar: makes progress bars, as `console.progress` does.
        distribution: where it runs; the network must have been made in its scope.

    Attributes:
        step: one step of the optimiser: photos of `Distribution.batches` (float32 [B, S, S, 3] on one device), int64
            labels [B] and the step's number as an int scalar -> the loss, float32 scalar.
        steps: steps in an epoch.
        groups: the variables by role, with their optimisers.
    """

    def __init__(
        self,
        model: keras.Model,
        data: TrainingData,
        config: TrainingConfig,
        augmentation: Augmentation,
        run: RunDirectory,
        bar: Callable = console.progress,
        distribution: Distribution | None = None,
    ):
        self._model, self._data, self._config, self._run, self._bar = model, data, config, run, bar
        self._augmentation, self._distribution = augmentation, distribution or Distribution()
        self._plans = Plans(data, config)
        self.steps = self._plans.steps
        self._labels = np.zeros(len(data.split), np.int64)
        instances, self._labels[data.rows] = np.unique(data.labels, return_inverse=True)
        self._loss = config.make_loss()
        with self._distribution.scope():
            if hasattr(self._loss, "build"):
                self._loss.build(len(instances), int(model.output_shape[-1]), config.seed)
            self.groups = parameters.parameter_groups(model, self._loss, config)
            self._average = WeightAverage(model, config.average, config.initial_share)
        optimizers = [variable for group in self.groups for variable in group.optimizer.variables]
        owned = getattr(self._loss, "variables", [])
        state = [*model.variables, *owned, *optimizers, *self._average.variables]
        self._checkpoints = Checkpoints(run.checkpoints, state)
        self._extractor = Extractor(model, config.image_size, config.extraction_batch)
        self._summaries = summaries.Summaries(run.tensorboard if self._distribution.is_chief else None)
        self.step = self._make_step()

    def fit(self) -> list[dict]:
        """Trains to the last epoch, from the newest checkpoint on.

        Returns:
            One dictionary per epoch: epoch, loss, validation mAP and R@1 (None without validation), p, learning rate.

        Raises:
            InputError: the loss is no longer a finite number.
        """
        progress = self._checkpoints.restore()
        self._distribution.barrier()  # all have read the same checkpoint before the chief writes the next
        if progress.epoch == 0 and progress.step == 0 and not self._run.model("untrained").is_file():
            self._save("untrained")
        if progress.epoch < self._config.epochs:
            store = self.make_store()
            while progress.epoch < self._config.epochs:
                progress = self.train_epoch(progress, store)
                progress = self._finish_epoch(progress)
        return list(progress.history)

    def make_store(self, cache_mb: int | None = None) -> PhotoStore:
        """Opens the training photos, in memory where they fit into `cache_mb` (the training's own by default)."""
        # A third more detail than the views need, for crops to be cut from.
        side = math.ceil(self._config.view_size * 4 / 3)
        bar = lambda photos: iter(self._bar(photos, "decoding", total=len(self._data.split)))  # noqa: E731
        cache = self._config.cache_mb if cache_mb is None else cache_mb
        return PhotoStore(self._data.split, side, cache << 20, bar)

    def _make_step(self) -> Callable:
        model, config, groups = self._model, self._config, self.groups
        variables = [variable for group in groups for variable in group.variables]
        photos_per_tuple, distribution = 2 + config.negatives, self._distribution

        def replica_step(photos: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                descriptors = distribution.gather(model(photos, training=config.train_statistics))
                if config.uses_tuples:
                    descriptors = tf.reshape(descriptors, [-1, photos_per_tuple, descriptors.shape[-1]])
                loss = self._loss(labels, descriptors)
            gradients = tape.gradient(loss, [variable.value for variable in variables])
            parameters.apply_gradients(groups, gradients, distribution.replicas)
            return loss

        @tf.function(reduce_retracing=True)
        def step(photos, labels: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
            loss = distribution.run(replica_step, photos, labels)
            self._average.update(number)
            return loss

        return step

    def train_epoch(self, progress: Progress, store: PhotoStore) -> Progress:
        """Trains the rest of an epoch and returns where the training then stands, its validation still to come."""
        config = self._config
        if progress.plan is None:
            progress = dataclasses.replace(progress, plan=self._make_plan(progress.epoch))
            self._show_plan(progress)
        seed, first = (config.seed, progress.epoch), progress.step

        def share(worker: int, workers: int) -> tf.data.Dataset:
            how = self._augmentation
            return training_batches(store, progress.plan, config.view_size, how, seed, first, worker, workers)

        loss_sum, bar = progress.loss_sum, self._bar(None, f"epoch {seed[1] + 1}/{config.epochs}", self.steps, "step")
        bar.update(first)
        for step, photos in self._distribution.batches(share):
            number = progress.epoch * self.steps + step
            loss_sum += self._one_step(number, photos, self._labels[progress.plan[step]])
            bar.set_postfix_str(f"loss {loss_sum / (step + 1):.4f}", refresh=False)
            bar.update(1)
            if (step + 1) % config.checkpoint_steps == 0 and step + 1 < self.steps:
                self._write_checkpoint(dataclasses.replace(progress, step=step + 1, loss_sum=loss_sum))
        bar.close()
        return dataclasses.replace(progress, step=self.steps, loss_sum=loss_sum)

    def _make_plan(self, epoch: int) -> np.ndarray:
        """Returns an epoch's plan; with several machines, the chief's, whose rounding may differ from the others'."""

        def make() -> np.ndarray:
            bar = lambda total: self._bar(None, f"epoch {epoch + 1} mining", total=total)  # noqa: E731
            return self._plans.epoch(epoch, self._extractor, bar)

        return self._distribution.from_chief(make, (self.steps, self._plans.batch_size))

    def _one_step(self, number: int, photos, labels: np.ndarray) -> float:
        """Does step `number` of the training, notes its figures, and returns its loss."""
        rate = parameters.learning_rate(self._config, number, self.steps)
        parameters.set_learning_rate(self.groups, rate)
        loss = float(self.step(photos, tf.constant(labels), tf.constant(number)))
        self._check_finite(loss, number)
        told = {name: float(value) for name, value in getattr(self._loss, "scalars", {}).items()}
        if number % 10 == 0:
            told |= {"loss": loss, "learning_rate": rate, **summaries.pooling_exponents(self._model)}
        self._summaries.scalars(number, told)
        return loss

    def _write_checkpoint(self, progress: Progress) -> None:
        if self._distribution.is_chief:
            self._checkpoints.save(progress)

    def _finish_epoch(self, progress: Progress) -> Progress:
        """Validates, saves the network where it is the best so far, and writes the epoch's checkpoint."""
        epoch, step = progress.epoch + 1, (progress.epoch + 1) * self.steps
        entry = {
            "epoch": epoch,
            "loss": progress.loss_sum / self.steps,
            "validation_map": None,
            "validation_recall_at_1": None,
        }
        best = progress.best_map
        with self._average.applied():
            if len(self._data.validation_rows) and self._distribution.is_chief:
                bar = lambda total: self._bar(None, f"epoch {epoch} validation", total=total)  # noqa: E731
                found = validate(self._data, self._extractor, bar)
                entry["validation_map"] = float(found.evaluation.map)
                entry["validation_recall_at_1"] = float(found.evaluation.recall_at[1])
                self._summaries.strips(step, "worst validation queries", self._data.validation, found.worst)
                self._summaries.scalars(
                    step, {name: entry[name] for name in ("validation_map", "validation_recall_at_1")}
                )
            score = entry["validation_map"]
            if score is None or best is None or score > best:
                best = score
                self._save("best")
            self._save("last")
        entry |= summaries.pooling_exponents(self._model)
        entry["learning_rate"] = parameters.learning_rate(self._config, step - 1, self.steps)
        progress = Progress(epoch, best_map=best, history=(*progress.history, entry))
        if self._distribution.is_chief:
            files.write_json(self._run.history, list(progress.history))
        self._write_checkpoint(progress)
        self._summaries.flush()
        console.say(_epoch_line(entry))
        return progress

    def _save(self, which: str) -> None:
        """Saves the network atomically as "best", "last" or "untrained"."""
        if not self._distribution.is_chief:
            return
        path = self._run.model(which)
        partial = path.with_name(f"partial-{path.name}")
        self._model.save(partial)
        partial.replace(path)

    def _show_plan(self, progress: Progress) -> None:
        if self._config.uses_tuples:
            strips = summaries.hardest_tuples(progress.plan, self._config.negatives)
            self._summaries.strips(progress.epoch * self.steps, "hardest tuples", self._data.split, strips)

    def _check_finite(self, loss: float, number: int) -> None:
        if not math.isfinite(loss):
            raise InputError(
                f"the loss became {loss} at step {number + 1}; lower --learning_rate={self._config.learning_rate} and "
                "begin in a new --output."
            )


def _epoch_line(entry: dict) -> str:
    parts = [f"epoch {entry['epoch']}: loss {entry['loss']:.4f}"]
    if entry["validation_map"] is not None:
        parts.append(f"validation mAP {entry['validation_map']:.3f}, R@1 {entry['validation_recall_at_1']:.3f}")
    parts += [f"p {value:.3f}" for name, value in entry.items() if name.startswith("p/")]
    return ", ".join(parts)
