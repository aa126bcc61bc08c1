"""Objects in drawn scenes: the six rows of the object-embedding analysis for buildings that nothing has trained on.

Each photo shows one building among others and clutter. The detector finds buildings, all as one class; queries and
database show other buildings than training. The teacher is MobileNetV2-1.0 as ImageNet left it, and so is the
detector's trunk, of which nothing is trained: the student's branch begins as the teacher's map with boxes as hard
attention, is brought nearest to the teacher's crops by ridge regression, and learns on from there. What is finished in
--output is kept: the command can be stopped and given again. Needs the weights in ../shared/data/weights.
Example: python -m benchmarks.scenes_objects --seeds=0,1,2
"""

import dataclasses
from pathlib import Path

import keras
from absl import flags

from benchmarks import object_rows
from pipelines import script
from tfretrieval import files, provenance
from tfretrieval.data import scenes
from tfretrieval.data.detection_views import ViewConfig
from tfretrieval.data.object_sources import ObjectOptions, read_objects
from tfretrieval.data.record_set import RecordSet
from tfretrieval.data.scene_objects import OBJECTS_FILE
from tfretrieval.data.sources import SourceOptions
from tfretrieval.data.write_records import WriteOptions, write_record_set
from tfretrieval.evaluation.analysis_page import ANALYSIS, AnalysisResult
from tfretrieval.evaluation.object_analysis import AnalysisOptions, ObjectAnalysis
from tfretrieval.models.guided import BranchConfig, GuidedObjectEmbedder
from tfretrieval.training.detector import detect_split, finder, score
from tfretrieval.training.detector_config import DetectorTraining
from tfretrieval.training.run_directory import RunDirectory
from tfretrieval.training.train_objects import ObjectData

FLAGS = flags.FLAGS

flags.DEFINE_string("weights", "../shared/data/weights", "Folder of the MobileNetV2 weights.")
flags.DEFINE_string("output", "runs/scenes_objects", "Directory for everything.")
flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of the students.")
flags.DEFINE_integer("train_buildings", 100, "Buildings that train.", lower_bound=1)
flags.DEFINE_integer("other_buildings", 16, "Buildings of queries and database.", lower_bound=2)
flags.DEFINE_integer("photos", 10, "Photos of each building, three of which are queries.", lower_bound=4)
flags.DEFINE_integer("epochs", 0, "Epochs of each training, in the place of the usual.", lower_bound=0)

SIZE, QUERIES = 192, 3
BRANCH = BranchConfig(branch_maps="trunk", branch_level=5, branch_layers=0)
LAST_LAYER = "out_relu"
VIEWS = ViewConfig(mirror=False)


def drawn_scenes() -> Path:
    """Draws the scenes, or finds them drawn; `annotations` has a COCO file for each split."""
    folder = Path(FLAGS.output) / "scenes"
    if not folder.is_dir():
        scenes.render_scenes(folder, FLAGS.train_buildings + FLAGS.other_buildings, FLAGS.photos, seed=0)
    (folder / "annotations").mkdir(exist_ok=True)
    whole = files.read_json(folder / OBJECTS_FILE, "the objects of drawn scenes")
    splits = {"train": [], "queries": [], "database": []}
    for place, image in enumerate(whole["images"]):  # building after building
        building, number = divmod(place, FLAGS.photos)
        other = "queries" if number < QUERIES else "database"
        splits["train" if building < FLAGS.train_buildings else other].append(image)
    for split, images in splits.items():
        numbers = {image["id"] for image in images}
        shown = [each for each in whole["annotations"] if each["image_id"] in numbers]
        files.write_json(folder / "annotations" / f"{split}.json", {**whole, "images": images, "annotations": shown})
    return folder


def records(name: str, **options) -> RecordSet:
    """Makes a record set of the scenes, or opens the one made before."""
    path = Path(FLAGS.output) / "records" / name
    if path.is_dir():
        return RecordSet.load(path)
    splits = {split: (split,) for split in ("train", "queries", "database")}
    found = read_objects("coco", drawn_scenes(), SourceOptions(), ObjectOptions(splits, **options))
    return write_record_set(found.entries, path, WriteOptions(f"scenes-{name}", classes=found.classes))[0]


def training(made: RecordSet) -> object_rows.Training:
    """Returns how detector and students are trained."""
    config = DetectorTraining(
        classes_merged=True, size=SIZE, epochs=FLAGS.epochs or 4, validate_every=1000, learning_rate=5e-4,
        freeze_through=LAST_LAYER,
    )  # fmt: skip
    data, folder = ObjectData.of(made, "database"), Path(FLAGS.output)
    epochs = FLAGS.epochs or 2
    return object_rows.Training("scenes", folder, FLAGS.weights, data, VIEWS, config, epochs, "1.0", BRANCH, 1e-6, 2.0)


def building_ap50(detector: RunDirectory, made: RecordSet) -> float:
    """Returns the detector's AP50 for a building, over the database."""
    split = made.split("database")
    found = detect_split(finder(detector.load_model("last")), split, SIZE)
    return score(split, found, merged=True).ap50


def analyse(made: RecordSet, student: GuidedObjectEmbedder, header: dict) -> AnalysisResult:
    """Returns the six rows with one student."""
    options = AnalysisOptions(image_size=SIZE, crop_size=object_rows.CROP)
    analysis = ObjectAnalysis(made.split("queries"), made.split("database"), options, None, object_rows.bar)
    rows = analysis.rows(object_rows.teacher_network(FLAGS.weights), student, ("object",))
    return AnalysisResult(made.name, tuple(rows), analysis.counts(), options.boxes, header)


def main() -> None:
    """Fills the table and prints it; the page of each student is in `pages`."""
    output, made = Path(FLAGS.output), records("objects")
    stored, entries = output / "rows.json", {}
    if stored.is_file():
        entries = files.read_json(stored, "the table's rows")["rows"]
    header = provenance.header(script.flag_values(main), None, {"records": made.sha256})
    how = training(made)
    crops = lambda: records("crops", crop_objects=("train",))  # noqa: E731
    for seed in FLAGS.seeds:
        if seed in entries:
            continue
        keras.backend.clear_session()
        detector = how.detector()
        teacher = object_rows.teacher_vectors(output / "teacher", FLAGS.weights, crops)
        student = how.student(detector, teacher, int(seed))
        result = analyse(made, student.load_model("last"), header)
        with files.atomic_directory(output / "pages" / seed, marker=ANALYSIS) as partial:
            result.save(partial)
        ap50 = {"a building": building_ap50(detector, made)}
        entries[seed] = {**{row.method: dataclasses.asdict(row) for row in result.rows}, "ap50": ap50}
        files.write_json(stored, {**header, "rows": entries})
    table = object_rows.markdown("scenes", entries)
    files.write_text(output / "table.md", table + "\n")
    print(table)


if __name__ == "__main__":
    script.run_main(main)
