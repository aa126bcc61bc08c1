"""INSTRE: Wang, Jiang, "INSTRE: a new benchmark for instance-level object retrieval and recognition", TOMM 2015."""

from pathlib import Path

from tfretrieval.data.ground_truth_lists import read_ground_truth_lists
from tfretrieval.data.judgements import JudgedPhotos
from tfretrieval.data.listed_photos import (
    check_photos,
    count_notes,
    find_file,
    need_folder,
    photos_folder,
    sha256_of_files,
)
from tfretrieval.data.sources import PhotoEntry, SourceOptions
from tfretrieval.errors import InputError

PHOTOS, QUERIES = 27_293, 1250
_FILES = ("gnd_instre.mat", "gnd_instre.pkl")


def read_instre(directory: str | Path, options: SourceOptions) -> JudgedPhotos:
    """Reads INSTRE with the protocol of Iscen et al. (CVPR 2017): 1,250 queries with boxes, 27,293 database photos.

    There are five queries for each of 250 objects; a query's photo is none of the database's. Its box is (x1, y1, x2,
    y2); in the photos' own .txt files boxes are x, y, width and height, and are not read. Photos with two objects
    (INSTRE-M) have queries whose box holds both. gnd_instre.mat is in test_script.zip at
    https://cmp.felk.cvut.cz/~iscenahm/files/, once at ftp://ftp.irisa.fr/local/texmex/corpus/instre/, as are the
    photos, instre.tar.gz.

    Args:
        directory: the folder, with gnd_instre.mat, whose rows count from 1, or a pickle gnd_instre.pkl with the same
            fields (imlist, qimlist, gnd with ok and bbx, perhaps junk), whose rows count from 0; and the folders
            INSTRE-S1, INSTRE-S2 and INSTRE-M that imlist names, in it or in images.
        options: none are read.

    Returns:
        Queries and database in the file's order. Ids are the file's paths, instances the folders that they name.

    Raises:
        InputError: the folder or the file is missing or at fault, or a photo is missing.
    """
    directory = need_folder(directory, "a folder with gnd_instre.mat and INSTRE-S1, INSTRE-S2, INSTRE-M")
    file = next((found for found in (find_file(directory, name) for name in _FILES) if found), None)
    if file is None:
        raise InputError(f"--input={directory} has no {_FILES[0]}, and no {_FILES[1]}, in it; one is wanted.")
    truth = read_ground_truth_lists(file, {"ok": "easy", "junk": "junk"}, "the ground truth of INSTRE")
    folder = photos_folder(directory, ("images", "jpg"), truth.imlist[:1])
    queries, database = (
        [PhotoEntry(name, folder / name, _object(name), split) for name in names]
        for names, split in ((truth.qimlist, "queries"), (truth.imlist, "database"))
    )
    check_photos(str(file), [*queries, *database])
    notes = count_notes("INSTRE", {"queries": (len(queries), QUERIES), "database photos": (len(database), PHOTOS)})
    return JudgedPhotos((*queries, *database), truth.judgements, "instre", sha256_of_files([file]), notes)


def _object(name: str) -> str:
    return name.rpartition("/")[0] or name
