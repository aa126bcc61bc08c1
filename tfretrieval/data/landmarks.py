"""Google-Landmarks: versions 1, 2 and 2-clean to train with, and the retrieval and recognition benchmarks of version 2.

Noh et al., ICCV 2017 (version 1); Weyand et al., CVPR 2020 (version 2). Csv files, solutions and photos of version 2
are listed at https://github.com/cvdfoundation/google-landmark: 500 archives to train with, 100 of the index, 20 of the
test, a few hundred GB together. Version 1 was on Kaggle (google/google-landmarks-dataset) as a list of addresses, of
which many are dead now.
"""

from collections.abc import Callable
from pathlib import Path

from tfretrieval.data.judgements import UNLABELLED, JudgedPhotos, QueryJudgement
from tfretrieval.data.landmark_files import Solution, read_ids, read_landmark_list, read_solution
from tfretrieval.data.listed_photos import (
    check_photos,
    count_notes,
    find_file,
    need_file,
    need_folder,
    rows_by,
    sha256_of_files,
)
from tfretrieval.data.sources import PhotoEntry, SourceOptions
from tfretrieval.errors import InputError

INDEX_PHOTOS, TEST_PHOTOS = 761_757, 117_577
QUERIES = {"public": 379, "private": 750}
NO_LANDMARK = "(no landmark)"
RETRIEVAL_SOLUTION = "retrieval_solution_v2.1.csv"
RECOGNITION_SOLUTION = "recognition_solution_v2.1.csv"
_FOLDERS = ("metadata", "ground_truth", "train", "index", "test")


def read_gldv1(directory: str | Path, options: SourceOptions) -> list[PhotoEntry]:
    """Reads Google-Landmarks v1 to train with: 1,225,029 photos of 14,951 landmarks, as published.

    See `read_gldv2`, which reads the same columns; photos are train/ID.jpg, as they were downloaded one by one. Those
    that are no longer to be had go to rejected.csv, so --max_rejected has to be raised.
    """
    return _trained(directory, options, "train.csv")


def read_gldv2(directory: str | Path, options: SourceOptions) -> list[PhotoEntry]:
    """Reads Google-Landmarks v2 to train with: 4,132,914 photos of 203,094 landmarks.

    Whether photos are there is found when they are read. The entries take about 500 bytes each, 2 GB for all.

    Args:
        directory: the folder, with the list, in it or in metadata or train, and the photos: train/a/b/c/ID.jpg by the
            first three characters of their ids, as the archives have them, or train/ID.jpg.
        options: `photo_list` names the list, train.csv by default; its columns are those that `read_landmark_list`
            takes. `photos_root` is the folder that train is in, `directory` by default.

    Returns:
        Entries of the split "train" in the list's order; ids are the photos', instances the landmark_id.

    Raises:
        InputError: the folder, the list or the folder of photos is missing, or a row of the list is at fault.
    """
    return _trained(directory, options, "train.csv")


def read_gldv2_clean(directory: str | Path, options: SourceOptions) -> list[PhotoEntry]:
    """Reads Google-Landmarks v2-clean to train with: 1,580,470 photos of 81,313 landmarks.

    As `read_gldv2`, with train_clean.csv for its list. Landmarks of 36 of ROxford5k's and 38 of RParis6k's queries are
    in it. "Revisited" v2-clean (https://github.com/dealicious-inc/RGLDv2-clean, CVPR 2024) leaves out 17 landmarks,
    1,565 photos: 1,578,905 photos of 81,296 landmarks. It is published as one file on Google Drive, whose columns are
    nowhere described; `photo_list` names it, and both makes of columns are read.
    """
    return _trained(directory, options, "train_clean.csv")


def read_gldv2_retrieval(directory: str | Path, options: SourceOptions) -> JudgedPhotos:
    """Reads the retrieval benchmark of Google-Landmarks v2: 379 public and 750 private queries, 761,757 index photos.

    Queries that the solution ignores are left out. Public and private queries are groups, measured one by one.

    Args:
        directory: the folder, with index.csv and retrieval_solution_v2.1.csv, in it or in metadata, ground_truth, index
            or test, and the photos index/a/b/c/ID.jpg and test/a/b/c/ID.jpg. With index_image_to_landmark.csv beside
            index.csv, instances are its landmarks; the index's numbers are not those of the photos to train with.
        options: `photos_root` is the folder that index and test are in, `directory` by default.

    Returns:
        Queries in the solution's order, the index in its own; ids are the photos'.

    Raises:
        InputError: a folder, a file or a photo is missing, a row is at fault, or the solution names a photo that is not
            in the index.
    """
    directory = need_folder(directory, f"a folder with index.csv, {RETRIEVAL_SOLUTION} and the photos")
    wanted = "the index of Google-Landmarks v2, with its photos and the solution of retrieval,"
    index_file = need_file(directory, "index.csv", wanted, _FOLDERS)
    file = need_file(directory, RETRIEVAL_SOLUTION, wanted, _FOLDERS)
    row_of, solution = read_ids(index_file), read_solution(file, "retrieval")
    labels = find_file(index_file.parent, "index_image_to_landmark.csv")
    landmark_of = dict(read_landmark_list(labels)) if labels else {}
    path_of = _photo_paths(directory, options, "index")
    database = [PhotoEntry(photo, path_of(photo), landmark_of.get(photo, UNLABELLED), "database") for photo in row_of]
    judgements = []
    for photo, images in solution.truths.items():
        lost = [image for image in images if image not in row_of]
        if lost:
            raise InputError(
                f"{file} line {solution.lines[photo]}: images has {lost[0]!r}, which is not in {index_file}; photos of "
                "the index are wanted."
            )
        judgements.append(QueryJudgement(tuple(row_of[image] for image in images), group=solution.usages[photo]))
    of_queries = [database[judgement.easy[0]].instance if judgement.easy else UNLABELLED for judgement in judgements]
    queries = _queries(directory, options, solution, of_queries)
    check_photos(f"{index_file} and {file}", [*queries, *database])
    counts = {
        f"{usage} queries": (list(solution.usages.values()).count(usage), count) for usage, count in QUERIES.items()
    }
    counts["index photos"] = (len(database), INDEX_PHOTOS)
    notes = count_notes("Google-Landmarks v2's retrieval", counts)
    digest = sha256_of_files([index_file, file])
    return JudgedPhotos((*queries, *database), tuple(judgements), "landmarks_retrieval", digest, notes)


def read_gldv2_recognition(directory: str | Path, options: SourceOptions) -> JudgedPhotos:
    """Reads the recognition benchmark of Google-Landmarks v2: 117,577 test photos, of which few show a landmark.

    Right are the photos to train with of a landmark that the test photo shows. Photos that the solution ignores are
    left out; public and private ones are groups. Test photos without a landmark are queries without an answer: they
    count, since a confident answer to them is wrong.

    Args:
        directory: the folder, with recognition_solution_v2.1.csv and the list, in it or in metadata, ground_truth,
            train or test, and the photos train/a/b/c/ID.jpg and test/a/b/c/ID.jpg.
        options: `photo_list` names the list, train.csv by default, train_clean.csv, say. `photos_root` is the folder
            that train and test are in, `directory` by default.

    Returns:
        Queries in the solution's order, the database in the list's; ids are the photos', instances the landmark_id.

    Raises:
        InputError: a folder, a file or a photo is missing, or a row is at fault.
    """
    database, list_file = _listed(directory, options, "train.csv", "database")
    file = need_file(Path(directory), RECOGNITION_SOLUTION, "the solution of recognition", _FOLDERS)
    solution = read_solution(file, "recognition")
    rows = rows_by(database, lambda entry: entry.instance)
    judgements = tuple(
        QueryJudgement(
            tuple(row for landmark in landmarks for row in rows.get(landmark, ())), group=solution.usages[photo]
        )
        for photo, landmarks in solution.truths.items()
    )
    of_queries = [landmarks[0] if landmarks else NO_LANDMARK for landmarks in solution.truths.values()]
    queries = _queries(directory, options, solution, of_queries)
    check_photos(f"{list_file} and {file}", [*queries, *database])
    tested = len(solution.truths) + len(solution.ignored)
    notes = count_notes("Google-Landmarks v2's recognition", {"test photos": (tested, TEST_PHOTOS)})
    unknown = sum(
        bool(truth) and not judged.easy for truth, judged in zip(solution.truths.values(), judgements, strict=True)
    )
    if unknown:
        notes += (
            f"{unknown:,} test photos show landmarks of which {list_file.name} has no photo; the official score counts "
            "them as missed, and here they have no answer: pipelines.score_landmarks gives the official one.",
        )
    digest = sha256_of_files([list_file, file])
    return JudgedPhotos((*queries, *database), judgements, "landmarks_recognition", digest, notes)


def _trained(directory: str | Path, options: SourceOptions, list_name: str) -> list[PhotoEntry]:
    return _listed(directory, options, list_name, "train")[0]


def _listed(directory: str | Path, options: SourceOptions, name: str, split: str) -> tuple[list[PhotoEntry], Path]:
    """Returns the photos of a list, all in one split, and the list's file."""
    name = options.photo_list or name
    directory = need_folder(directory, f"a folder with {name} and train of Google-Landmarks")
    file = need_file(directory, name, "the list of Google-Landmarks' photos", _FOLDERS)
    path_of = _photo_paths(directory, options, "train")
    entries = [PhotoEntry(photo, path_of(photo), landmark, split) for photo, landmark in read_landmark_list(file)]
    if not entries:
        raise InputError(f"{file} names no photo; a line for each, or for each landmark, is wanted.")
    return entries, file


def _queries(directory: str | Path, options: SourceOptions, solution: Solution, names: list[str]) -> list[PhotoEntry]:
    path_of = _photo_paths(Path(directory), options, "test")
    return [
        PhotoEntry(photo, path_of(photo), name, "queries") for photo, name in zip(solution.truths, names, strict=True)
    ]


def _photo_paths(directory: Path, options: SourceOptions, name: str) -> Callable[[str], Path]:
    """Returns what gives a photo's path from its id, in folders by the first three characters where there are such."""
    folder = Path(options.photos_root or directory) / name
    if not folder.is_dir():
        raise InputError(
            f"{folder} is not a folder; the photos, as {name}/0/1/2/0123456789abcdef.jpg, are wanted there."
        )
    if any(len(path.name) == 1 and path.is_dir() for path in folder.iterdir()):
        return lambda photo: folder.joinpath(*photo[:3], f"{photo}.jpg")
    return lambda photo: folder / f"{photo}.jpg"
