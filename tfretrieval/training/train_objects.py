"""Whole trainings of detectors and of guided object embedders, from a record set to a run directory."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import keras

from tfretrieval import console, files, provenance
from tfretrieval.data.augmentation import Augmentation
from tfretrieval.data.detection_views import ViewConfig
from tfretrieval.data.record_set import RecordSet, Split
from tfretrieval.descriptors import Descriptors
from tfretrieval.errors import InputError
from tfretrieval.models.d_fine import DFineDetector
from tfretrieval.models.descriptor import freeze_layers
from tfretrieval.models.detector import DetectorConfig, build_detector
from tfretrieval.models.detector_presets import preset_class_names, preset_image_size
from tfretrieval.models.guided import BranchConfig, GuidedObjectEmbedder
from tfretrieval.training.detector import DetectorTrainer
from tfretrieval.training.detector_config import DetectorTraining
from tfretrieval.training.guided import Guidance, GuidedTrainer, ObjectTeacher
from tfretrieval.training.head_start import begin_branch_at_teacher
from tfretrieval.training.run_directory import RunDirectory


@dataclasses.dataclass(frozen=True)
class ObjectData:
    """The photos of a training.

    Attributes:
        records: the record set.
        train: its photos that train.
        validation: its photos that tell the average precision; None without.
    """

    records: RecordSet
    train: Split
    validation: Split | None

    @classmethod
    def of(cls, records: RecordSet, validation: str | None) -> "ObjectData":
        """Takes the split `train`, and a named one for validation, or `validation` where there is one.

        Raises:
            InputError: the records have no objects, no split of the name, or no object to learn from.
        """
        if not records.classes:
            raise InputError(
                f"--records={records.directory} has no objects; records of --source=voc, coco or open_images are "
                "wanted."
            )
        train = records.split("train")
        if not len(train.objects.classes):
            raise InputError(f"--records={records.directory}: the photos of its split 'train' show no object.")
        named = validation or ("validation" if "validation" in records.splits else None)
        return cls(records, train, records.split(named) if named else None)


def train_detector(
    data: ObjectData,
    output: str | Path,
    detector: DetectorConfig,
    config: DetectorTraining,
    views: ViewConfig,
    colours: Augmentation,
    flags: Mapping[str, object],
    resume: bool = False,
) -> tuple[RunDirectory, list[dict]]:
    """Trains a detector.

    Args:
        data: the photos.
        output: the run directory.
        detector: its parts.
        config: the training.
        views: how photos and boxes are varied.
        colours: how colours are varied.
        flags: what to note in `run.json`; a resumed run must be given the same.
        resume: continue the run in `output`.

    Returns:
        The run directory, holding `best.keras`, `last.keras`, `run.json` and `history.json`; and the history.

    Raises:
        InputError: the settings, the records or the output do not fit; see the parts.
    """
    classes = _classes(data, config)
    keras.utils.set_random_seed(config.seed)
    model = build_detector(detector, len(classes))
    if config.freeze_through:
        _freeze(model, config.freeze_through)
    settings = {"detector": dataclasses.asdict(detector)}
    run = _open(data, output, classes, config, settings, detector.weights, {}, flags, resume)
    _tell(data, config, model, classes)
    return run, DetectorTrainer(model, data.train, data.validation, config, views, colours, run).fit()


def keep_preset(
    output: str | Path, detector: DetectorConfig, config: DetectorTraining, flags: Mapping[str, object]
) -> tuple[RunDirectory, tuple[str, ...]]:
    """Writes the run of a preset as it is: with its own weights and classes, and nothing trained.

    Args:
        output: the run directory.
        detector: its `preset` is taken, and its kind.
        config: its `image_size` is the longer side of photos; the preset's own, or `size`, when 0.
        flags: what to note in `run.json`.

    Returns:
        The run directory, holding `best.keras` and `run.json`; and the names of the classes.

    Raises:
        InputError: there is no preset, or it cannot be loaded; or the output holds something.
    """
    if not detector.preset:
        raise InputError("--as_it_is: --preset is wanted, retinanet_resnet50_fpn_coco say.")
    detector = dataclasses.replace(detector, preset_classes=True)
    model = build_detector(detector, None)
    names = preset_class_names(detector.preset, model.num_classes)
    size = config.image_size or preset_image_size(detector.preset) or config.size
    weights = Path(detector.preset) / "model.weights.h5"
    hashes = {"preset": files.sha256(weights)} if weights.is_file() else {}
    description = {
        **provenance.header(flags, config.seed, hashes, {"image_size": size}),
        "classes": list(names),
        "detector": dataclasses.asdict(detector),
        "training": {"size": size, "image_size": size},
    }
    run = RunDirectory.create(output, description, resume=False)
    model.save(run.model("best"))
    return run, names


def train_guided(
    data: ObjectData,
    output: str | Path,
    detector: RunDirectory,
    branch: BranchConfig,
    teacher: str | Path,
    config: DetectorTraining,
    guidance: Guidance,
    views: ViewConfig,
    colours: Augmentation,
    flags: Mapping[str, object],
    resume: bool = False,
    allow_missing_teacher: bool = False,
) -> tuple[RunDirectory, list[dict]]:
    """Trains the embedding branch of a trained detector, with the detector or with its weights as they are.

    Args:
        data: the photos.
        output: the run directory.
        detector: the run of the detector; one of other classes, such as COCO's, with `freeze_detector` and
            `classes_merged`.
        branch: the branch's parts; its dimension is the teacher's.
        teacher: directory of the teacher's descriptors of the training objects' crops.
        config: the training.
        guidance: the losses between student and teacher.
        views: see `train_detector`.
        colours: see `train_detector`.
        flags: see `train_detector`.
        resume: see `train_detector`.
        allow_missing_teacher: see `ObjectTeacher.of_crops`.

    Returns:
        As `train_detector`; the networks are `GuidedObjectEmbedder`.

    Raises:
        InputError: the settings, the records or the output do not fit; see the parts.
    """
    classes = _classes(data, config)
    found = detector.load_model()
    told = detector.read_description().get("classes")
    if told and guidance.freeze_detector and config.classes_merged:
        classes = tuple(told)  # the detector's own; only the branch learns, and boxes are scored as of one class
    if list(classes) != told:
        raise InputError(
            f"--detector={detector.path} finds {told} and this training has the classes {list(classes)}; the same are "
            "wanted (--classes_merged too), or --freeze_detector with --classes_merged."
        )
    vectors = ObjectTeacher.of_crops(Descriptors.load(teacher), data.train, allow_missing_teacher)
    keras.utils.set_random_seed(config.seed)
    model = GuidedObjectEmbedder(found, dataclasses.replace(branch, dimension=vectors.vectors.shape[1]), name="objects")
    if config.freeze_through:
        _freeze(found, config.freeze_through)
    settings = {"branch": dataclasses.asdict(model.branch), "guidance": dataclasses.asdict(guidance)}
    hashes = {"detector": files.sha256(detector.model("best")), "teacher": files.sha256(Path(teacher) / "vectors.npy")}
    run = _open(data, output, classes, config, settings, None, hashes, flags, resume)
    _tell(data, config, model, classes)
    if guidance.branch_ridge:
        begin_branch_at_teacher(
            model, vectors, data.train, config.longer_side, guidance.branch_ridge, run.path / "branch_start.npz"
        )
    trainer = GuidedTrainer(model, data.train, data.validation, vectors, config, guidance, views, colours, run)
    return run, trainer.fit()


def _classes(data: ObjectData, config: DetectorTraining) -> tuple[str, ...]:
    return ("object",) if config.classes_merged else data.records.classes


def _freeze(detector: keras.Model, name: str) -> None:
    if isinstance(detector, DFineDetector):
        raise InputError(f"--freeze_through={name} is of a RetinaNet; --freeze_detector freezes a D-FINE.")
    freeze_layers(detector.backbone.image_encoder.trunk, name)


def _open(data, output, classes, config, settings: dict, weights, hashes: dict, flags, resume: bool) -> RunDirectory:
    hashes = {"records": data.records.sha256, **hashes}
    if weights and Path(weights).is_file():
        hashes["weights"] = files.sha256(weights)
    head = provenance.header(flags, config.seed, hashes, {"image_size": config.longer_side})
    description = {**head, "records": data.records.name, "classes": list(classes)}
    return RunDirectory.create(output, {**description, **settings, "training": dataclasses.asdict(config)}, resume)


def _tell(data: ObjectData, config: DetectorTraining, model: keras.Model, classes: tuple[str, ...]) -> None:
    objects = len(data.train.objects.classes)
    names = ", ".join(classes[:8]) + (", ..." if len(classes) > 8 else "")
    console.say(f"{len(data.train)} photos with {objects} objects train; {len(classes)} classes: {names}")
    console.say(
        f"{model.count_params() / 1e6:.2f} M parameters; {config.batch} views of {config.size} px a step, "
        f"{config.epochs} epochs"
    )
