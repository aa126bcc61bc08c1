"""What a training is made of, checked once."""

import dataclasses

import keras

from tfretrieval import losses
from tfretrieval.errors import InputError
from tfretrieval.losses.named import JOINTS, NamedLoss
from tfretrieval.mining.positives import COMMON_POINTS, POSITIVES, SCALE_CHANGE

SCHEDULES = ("constant", "cosine", "exponential")
OPTIMIZERS = ("adam", "sgd")
DECAY_KINDS = ("decoupled", "coupled")


_CHOICES = {"schedule": SCHEDULES, "optimizer": OPTIMIZERS, "decay_kind": DECAY_KINDS, "positives": POSITIVES}


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """A training's settings; `pipelines.train` has a flag for each.

    Attributes:
        loss: losses over tuples train on mined tuples, losses in batches on balanced batches; several joined by + are
            summed, on tuples where one of them is over tuples.
        loss_weights: factor of each loss in the sum, joined by +; 1 for most when not given.
        loss_options: further arguments of the losses, as step=0.05,order_weight=0.1; each loss's file has their names.
        joint: how several losses are balanced: fixed by the weights; learned (single) by one learned exponent of the
            first; uncertainty by one of each. lambda is refused.
        memory: photos of earlier batches that losses over pairs compare with (cross-batch memory); 0 for none.
        memory_start: steps before the memory is used.
        loss_learning_rate: learning rate at its highest of the weights that a loss owns.
        margin: margin of the losses that have one; the loss's own default when not given.
        temperature: temperature of the losses that have one; the loss's own default when not given.
        image_size: longer side in pixels for validation, mining and the export.
        train_size: side of the square training views in pixels; 0 for `image_size`.
        tuples: tuples in a batch (tuple losses).
        negatives: hard negatives in a tuple.
        one_per_instance: at most one negative of an instance in a tuple (the GeM paper's N2) rather than the hardest of
            all (its N1).
        positives: a random photo of the query's instance; or, with --geometry, the nearest in descriptors (m1), the one
            with the most common 3-D points (m2), or a random one that is hard and matches (m3, the GeM paper's choice).
        geometry: directory of pipelines.make_scenes with the 3-D geometry of the training photos, for m1, m2 and m3.
        common_points: m3's least share of the query's 3-D points that the positive sees.
        scale_change: m3's largest change of scale.
        queries: tuples in an epoch; 0 for one of every photo.
        pool_size: photos drawn as the pool that negatives are mined from; 0 for all.
        instances: instances P in a batch (in-batch losses).
        photos: photos K of each instance.
        epochs: passes; each begins with mining and ends with validation.
        steps: steps in an epoch of in-batch losses; 0 for as many as pass over all photos once.
        optimizer: adam, or sgd with momentum 0.9 (what MAC was first fine-tuned with, Radenovic et al., ECCV 2016).
        learning_rate: learning rate at its highest.
        p_multiplier: the learning rate of the pooling's p over that of the network (10 in the GeM paper; 100 for one p
            per channel in its PyTorch code).
        whitening_multiplier: the learning rate of the whitening layer over that of the network.
        attention_multiplier: the learning rate of the attention layers over that of the network.
        weight_decay: weight decay of the network, attention and whitening; p and what a loss owns have none.
        decay_kind: decoupled takes rate * decay * weight from each weight beside Adam's step (AdamW); coupled adds
            decay * weight to its gradient (L2 regularisation, as the GeM paper's PyTorch code does).
        decay_norms: whether weight decay is also of biases and of the scales and shifts of normalisation.
        schedule: of the learning rate; cosine falls to 0 at the last step.
        decay: exponential: the rate is multiplied by exp(-decay) each epoch.
        warmup: steps over which the rate rises from 0.
        freeze_through: name of the backbone's layer up to which nothing is trained; all is trained when not given.
        average: decay of the moving average of the weights that is validated and saved; 0 for no average.
        initial_share: share of the initial weights mixed into the saved ones (WiSE-FT, Wortsman et al., CVPR 2022).
        train_statistics: whether BatchNorm statistics follow the training batches; by default they do from random
            weights and are frozen from pre-trained ones.
        validation_share: share of the instances held out for validation when the records have no such split.
        checkpoint_steps: a checkpoint for `--resume` after every so many steps, beside those at the ends of epochs.
        cache_mb: most memory for decoded training photos, in MiB; 0 decodes at each use.
        extraction_batch: photos of one shape that validation and mining run together.
        seed: seed of everything random.
    """

    loss: str = dataclasses.field(default="contrastive", metadata={"names": tuple(losses.LOSSES)})
    loss_weights: str | None = None
    loss_options: str | None = None
    joint: str = dataclasses.field(default="fixed", metadata={"choices": JOINTS})
    memory: int = 0
    memory_start: int = 1000
    loss_learning_rate: float = 3e-3
    margin: float | None = None
    temperature: float | None = None
    image_size: int = 192
    train_size: int = 0
    tuples: int = 5
    negatives: int = 5
    one_per_instance: bool = True
    positives: str = dataclasses.field(default="instance", metadata={"choices": POSITIVES})
    geometry: str | None = None
    common_points: float = COMMON_POINTS
    scale_change: float = SCALE_CHANGE
    queries: int = 0
    pool_size: int = 0
    instances: int = 12
    photos: int = 4
    epochs: int = 10
    steps: int = 0
    optimizer: str = dataclasses.field(default="adam", metadata={"choices": OPTIMIZERS})
    learning_rate: float = 1e-4
    p_multiplier: float = 10.0
    whitening_multiplier: float = 1.0
    attention_multiplier: float = 1.0
    weight_decay: float = 1e-6
    decay_kind: str = dataclasses.field(default="decoupled", metadata={"choices": DECAY_KINDS})
    decay_norms: bool = True
    schedule: str = dataclasses.field(default="cosine", metadata={"choices": SCHEDULES})
    decay: float = 0.01
    warmup: int = 20
    freeze_through: str | None = None
    average: float = 0.0
    initial_share: float = 0.0
    train_statistics: bool | None = None
    validation_share: float = 0.1
    checkpoint_steps: int = 100
    cache_mb: int = 2048
    extraction_batch: int = 32
    seed: int = 0

    def __post_init__(self):
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise InputError(f"--{name}={getattr(self, name)} is unknown; one of {', '.join(known)} is wanted.")
        least = {"image_size": 16, "tuples": 1, "negatives": 1, "instances": 2, "photos": 2, "epochs": 1}
        least |= {
            "checkpoint_steps": 1,
            "extraction_batch": 1,
            "learning_rate": 0.0,
            "p_multiplier": 0.0,
            "whitening_multiplier": 0.0,
            "attention_multiplier": 0.0,
            "loss_learning_rate": 0.0,
        }
        least |= {"weight_decay": 0.0, "decay": 0.0}
        least |= dict.fromkeys(
            ("train_size", "queries", "pool_size", "steps", "warmup", "cache_mb", "seed", "memory", "memory_start"), 0
        )
        for name, low in least.items():
            if not getattr(self, name) >= low:  # so that NaN is refused too
                raise InputError(f"--{name}={getattr(self, name)}; {low} or more is wanted.")
        for name in ("average", "initial_share", "validation_share"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"--{name}={getattr(self, name)}; a share from 0 up to, not including, 1 is wanted.")
        if (self.positives != "instance") != bool(self.geometry):
            raise InputError(
                f"--positives={self.positives} --geometry={self.geometry}; m1, m2 and m3 want a directory with the "
                "photos' geometry, and it is for them alone."
            )
        self.make_loss()

    @property
    def named_loss(self) -> NamedLoss:
        """What the flags say of the loss."""
        given = {"options": self.loss_options, "joint": self.joint, "memory": self.memory}
        margins = (self.loss_weights, self.margin, self.temperature)
        return NamedLoss(self.loss, *margins, **given, memory_start=self.memory_start)

    @property
    def uses_tuples(self) -> bool:
        """Whether a loss is over mined tuples."""
        return self.named_loss.uses_tuples

    @property
    def view_size(self) -> int:
        """Side of the square training views in pixels."""
        return self.train_size or self.image_size

    def make_loss(self) -> keras.losses.Loss:
        """Makes the loss; see `NamedLoss.make`.

        Raises:
            InputError: what the flags say does not fit together.
        """
        return self.named_loss.make()
