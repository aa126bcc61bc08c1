"""Oxford5k and Paris6k: the Oxford and Paris photos as first judged by Philbin et al. (CVPR 2007, CVPR 2008).

https://www.robots.ox.ac.uk/~vgg/data/oxbuildings has oxbuild_images-v1.tgz and the ground truth gt_files_170407.tgz;
https://www.robots.ox.ac.uk/~vgg/data/parisbuildings has paris_1-v1.tgz, paris_2-v1.tgz and paris_120310.tgz. The photos
go into a folder `jpg`, in subfolders or not, the text files beside it or into a folder of their own there.

The queries are photos of the database, where their ground truth has them as good or ok: in the classic measure a query
finds itself.
"""

import dataclasses
from pathlib import Path

from tfretrieval.data.ground_truth_lists import ListedGroundTruth, check_box, is_photo_name, shown
from tfretrieval.data.judgements import UNLABELLED, JudgedPhotos, QueryJudgement
from tfretrieval.data.listed_photos import read_lines, sha256_of_files
from tfretrieval.data.revisited import PHOTOS, Published, listed_files, read_listed
from tfretrieval.data.sources import PhotoEntry, SourceOptions
from tfretrieval.errors import InputError

PROTOCOL = "oxford"
PREFIX = "oxc1_"  # before the photos' names in Oxford's query files
# https://www.robots.ox.ac.uk/~vgg/data/parisbuildings/corrupt.txt: in the first archives these hold no image.
_CORRUPT_NUMBERS = {
    "louvre": (136, 146),
    "moulinrouge": (422,),
    "museedorsay": (1059,),
    "notredame": (188,),
    "pantheon": (284, 960, 974),
    "pompidou": (195, 196, 201, 467, 640),
    "sacrecoeur": (299, 330, 353),
    "triomphe": (662, 833, 863, 867),
}
PARIS_CORRUPT = frozenset(
    f"paris_{landmark}_{number:06}" for landmark, numbers in _CORRUPT_NUMBERS.items() for number in numbers
)
_QUERY_END = "_query.txt"
_LISTS = {"good": "easy", "ok": "hard", "junk": "junk"}
_PICKLED = {"ok": "easy", "junk": "junk"}
OXFORD5K = Published("Oxford5k", 5063, 55)
PARIS6K = Published("Paris6k", 6392, 55)
# all_souls_1_good.txt has a photo twice, which counts once. The hash is that of `sha256_of_files`.
OXFORD5K_TEXTS = dataclasses.replace(
    OXFORD5K,
    rows={"easy": 1360, "hard": 1480, "junk": 1495},
    sha256=frozenset({"f6d258d62062d8a9f2fa50cc4443d1750e37f3d87b64fd08d1f65ae261ac69f6"}),
)


def read_oxford5k(directory: str | Path, options: SourceOptions) -> JudgedPhotos:
    """Reads Oxford5k: DIR/jpg with the photos and the text files, or DIR/gnd_oxford5k.pkl (or .mat) where it is there.

    The text files NAME_query.txt, NAME_good.txt, NAME_ok.txt and NAME_junk.txt are in DIR or one folder of it. The
    database is then the photos of `jpg` in the order of their names; a photo listed twice for a query counts once, and
    one that is good and ok is good, as the benchmark's own program makes sets of the lists. Queries have the order of
    the files' names. The later gnd_oxford5k.pkl of `imlist`, `qimlist` and `gnd` has one list `ok` of all that are
    right; it is kept as it is.

    Args:
        directory: DIR.
        options: nothing of it is read.

    Returns:
        "good" photos as easy and "ok" photos as hard; all of a pickle's `ok` as easy.

    Raises:
        InputError: photos or ground truth are missing or at fault; file, line and what was found are named.
    """
    if _is_listed(directory, "gnd_oxford5k"):
        return read_listed(directory, "gnd_oxford5k", _PICKLED, PROTOCOL, OXFORD5K)
    return _read_folder(Path(directory), OXFORD5K_TEXTS)


def read_paris6k(directory: str | Path, options: SourceOptions) -> JudgedPhotos:
    """Reads Paris6k, as `read_oxford5k` reads Oxford5k; its later ground truth is gnd_paris6k.pkl.

    The 20 photos that its authors list as corrupt are left out of a database that is read from the photos' folder.
    """
    if _is_listed(directory, "gnd_paris6k"):
        return read_listed(directory, "gnd_paris6k", _PICKLED, PROTOCOL, PARIS6K)
    return _read_folder(Path(directory), PARIS6K, PARIS_CORRUPT)


def _is_listed(directory: str | Path, stem: str) -> bool:
    return any(path.is_file() for path in listed_files(Path(directory), stem))


def _read_folder(directory: Path, published: Published, corrupt: frozenset[str] = frozenset()) -> JudgedPhotos:
    """Reads the text files, and the database from the photos' folder."""
    texts = _text_folder(directory, published)
    photos = _photos(directory / PHOTOS)
    left_out = sorted(corrupt & photos.keys())
    for name in left_out:
        del photos[name]
    found, read = _read_texts(texts, tuple(photos), corrupt)
    digest = sha256_of_files(read)
    notes = published.notes(len(photos), found.judgements, f"the text files of {texts}", digest)
    if left_out:
        notes += (f"{len(left_out)} photos that the authors list as corrupt are left out, first {left_out[0]}.",)
    entries = [PhotoEntry(name, photos[name], UNLABELLED, "queries") for name in found.qimlist]
    entries += [PhotoEntry(name, path, UNLABELLED, "database") for name, path in photos.items()]
    return JudgedPhotos(tuple(entries), found.judgements, PROTOCOL, digest, notes)


def _text_folder(directory: Path, published: Published) -> Path:
    """Returns the folder of the text files: the input's own or one of its folders."""
    wanted = f"the folder {PHOTOS} and NAME{_QUERY_END} files of {published.title}"
    if not directory.is_dir():
        raise InputError(f"--input={directory} is not a folder; one with {wanted} is wanted.")
    folders = [directory, *sorted(path for path in directory.iterdir() if path.is_dir())]
    found = [folder for folder in folders if next(folder.glob(f"*{_QUERY_END}"), None)]
    if len(found) != 1:
        told = f"NAME{_QUERY_END} files in {' and '.join(map(str, found))}" if found else f"no NAME{_QUERY_END} file"
        raise InputError(f"--input={directory} has {told}; {wanted}, all in one place, are wanted.")
    return found[0]


def _photos(folder: Path) -> dict[str, Path]:
    """Returns the photos below a folder by their names, in the order of these."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.jpg"), key=lambda path: (path.stem, path)):
        if path.stem in found:
            raise InputError(f"{path} has the name of {found[path.stem]}; a photo's name stands once.")
        found[path.stem] = path
    if not found:
        raise InputError(f"{folder} holds no .jpg photo; the benchmark's photos are wanted there.")
    return found


def _read_texts(folder: Path, photos: tuple[str, ...], corrupt: frozenset[str]) -> tuple[ListedGroundTruth, list[Path]]:
    """Reads all queries' files; returns the ground truth, and the files."""
    row_of = {name: row for row, name in enumerate(photos)}
    queries: dict[str, QueryJudgement] = {}
    read, missing = [], []
    for path in sorted(folder.glob(f"*{_QUERY_END}")):
        name, box = _query(path)
        if name in queries:
            raise InputError(f"{path} asks for {name!r}, as an earlier file does; a photo is one query.")
        stem, rows = path.name.removesuffix(_QUERY_END), {}
        missing += [] if name in row_of else [(str(path), name)]
        for kind, grade in _LISTS.items():
            file = path.with_name(f"{stem}_{kind}.txt")
            named = _names(file)
            rows[grade] = [row_of[photo] for photo in named if photo in row_of]
            lost = [photo for photo in named if photo not in row_of and photo not in corrupt]
            missing += [(f"{file} line {named[photo]}", photo) for photo in lost]
            read.append(file)
        good = set(rows["easy"])  # a photo that is good and ok is one right photo
        rows["hard"] = [row for row in rows["hard"] if row not in good]
        queries[name] = QueryJudgement(**{grade: tuple(found) for grade, found in rows.items()}, box=box)
        read.append(path)
    if missing:
        where, name = missing[0]
        raise InputError(
            f"{where} names {name!r}, which is not among the {len(photos)} photos of {PHOTOS}, as "
            f"{len({name for _, name in missing})} names in all are not; every photo named is wanted."
        )
    return ListedGroundTruth(photos, tuple(queries), tuple(queries.values())), read


def _query(path: Path) -> tuple[str, tuple[float, float, float, float]]:
    """Reads a query's file: the photo's name, with the prefix in Oxford's, and the box."""
    lines = [text for _, text in read_lines(path, "a query's photo and box")]
    words = lines[0].split() if len(lines) == 1 else []
    if len(words) != 5 or not is_photo_name(words[0]):
        raise InputError(f"{path} holds {shown(lines)}; one line, a photo's name and x1 y1 x2 y2, is wanted.")
    try:
        sides = [float(word) for word in words[1:]]
    except ValueError:
        raise InputError(f"{path} has the box {shown(words[1:])}; four numbers x1 y1 x2 y2 are wanted.") from None
    return words[0].removeprefix(PREFIX), check_box(f"{path}: the box", sides)


def _names(path: Path) -> dict[str, int]:
    """Reads a list of photos' names, each with the number of its first line, in their order."""
    names: dict[str, int] = {}
    for number, name in read_lines(path, "a photo's name a line"):
        if not is_photo_name(name) or " " in name:
            raise InputError(f"{path} line {number} is {shown(name)}; a photo's name is wanted.")
        names.setdefault(name, number)
    return names
