"""ROxford5k and RParis6k: the Oxford and Paris photos judged anew by Radenovic et al. (CVPR 2018).

http://cmp.felk.cvut.cz/revisitop/data/datasets has the ground truth, roxford5k/gnd_roxford5k.pkl and
rparis6k/gnd_rparis6k.pkl, and for MATLAB files of the same names in .mat. The photos are those of Oxford5k
(oxbuild_images-v1.tgz of https://www.robots.ox.ac.uk/~vgg/data/oxbuildings) and of Paris6k (paris_1-v1.tgz and
paris_2-v1.tgz of https://www.robots.ox.ac.uk/~vgg/data/parisbuildings), all in one folder `jpg`. Since June 2022 those
archives have blurred faces, so that pixels differ from older copies.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from tfretrieval import files
from tfretrieval.data.ground_truth_lists import ListedGroundTruth, read_ground_truth_lists
from tfretrieval.data.judgements import GRADES, UNLABELLED, JudgedPhotos, QueryJudgement
from tfretrieval.data.listed_photos import check_photos
from tfretrieval.data.sources import PhotoEntry, SourceOptions
from tfretrieval.errors import InputError

PROTOCOL = "revisited"
PHOTOS = "jpg"


@dataclasses.dataclass(frozen=True)
class Published:
    """What is known of a published ground truth.

    Attributes:
        title: the benchmark's name in sentences.
        database: photos of the database.
        queries: queries.
        rows: rows of all queries together, for each grade that is known.
        sha256: hashes of the published files.
    """

    title: str
    database: int
    queries: int
    rows: dict[str, int] = dataclasses.field(default_factory=dict)
    sha256: frozenset[str] = frozenset()

    def notes(
        self, database: int, judgements: Sequence[QueryJudgement], source: str = "", sha256: str = ""
    ) -> tuple[str, ...]:
        """Returns a sentence for each count that differs from the published one, and for another hash.

        Args:
            database: photos of the database that was read, without distractors.
            judgements: the queries that were read.
            source: name of the ground truth.
            sha256: its hash; empty where none is known of a file of its kind.
        """
        counts = [("database photos", database, self.database), ("queries", len(judgements), self.queries)]
        for grade, rows in self.rows.items():
            counts.append((f"{grade} rows", sum(len(getattr(query, grade)) for query in judgements), rows))
        notes = [
            f"There are {found} {what} and {known} in the published {self.title}: its figures are not comparable."
            for what, found, known in counts
            if found != known
        ]
        if sha256 and self.sha256 and sha256 not in self.sha256:
            known = " or ".join(sorted(known[:12] for known in self.sha256))
            notes.append(f"The SHA-256 of {source} is {sha256[:12]}, and the published one {known}.")
        return tuple(notes)


ROXFORD5K = Published(
    "ROxford5k",
    4993,
    70,
    {"easy": 3029, "hard": 2497, "junk": 1356},
    frozenset({"ba7967754bd2d7d2210a5799f9c45ad5835e269a80ef9d3eba44caa35816c471"}),
)
RPARIS6K = Published(
    "RParis6k",
    6322,
    70,
    {"easy": 6874, "hard": 10350, "junk": 7153},
    frozenset({"d2e729a5293dda7dda8a15c8383424a42e4964a2c4cfea2f32fa85d11d2df499"}),
)


def read_roxford5k(directory: str | Path, options: SourceOptions) -> JudgedPhotos:
    """Reads ROxford5k: DIR/gnd_roxford5k.pkl, or gnd_roxford5k.mat where there is no pickle, and DIR/jpg/NAME.jpg.

    The module's docstring tells where both are had. Database and queries have the order and the names of the file's
    `imlist` and `qimlist`. Counts and hashes that differ from the published ones are noted, not refused.

    Args:
        directory: DIR.
        options: nothing of it is read.

    Raises:
        InputError: the ground truth is missing or at fault, or photos are missing; the first is named.
    """
    return read_listed(directory, "gnd_roxford5k", dict(zip(GRADES, GRADES, strict=True)), PROTOCOL, ROXFORD5K)


def read_rparis6k(directory: str | Path, options: SourceOptions) -> JudgedPhotos:
    """Reads RParis6k: DIR/gnd_rparis6k.pkl, or gnd_rparis6k.mat where there is no pickle, and DIR/jpg/NAME.jpg.

    See `read_roxford5k`.
    """
    return read_listed(directory, "gnd_rparis6k", dict(zip(GRADES, GRADES, strict=True)), PROTOCOL, RPARIS6K)


def read_listed(
    directory: str | Path, stem: str, fields: dict[str, str], protocol: str, published: Published
) -> JudgedPhotos:
    """Reads a folder with a ground truth of lists, and the photos it names.

    Args:
        directory: the folder: STEM.pkl or STEM.mat, and `jpg` with NAME.jpg.
        stem: the ground truth's file name without its end.
        fields: see `read_ground_truth_lists`.
        protocol: the benchmark's protocol.
        published: what is known of it.

    Raises:
        InputError: the ground truth is missing or at fault, or photos are missing.
    """
    directory = Path(directory)
    wanted = f"{stem}.pkl (or .mat) of {published.title} and the folder {PHOTOS} with its photos"
    if not directory.is_dir():
        raise InputError(f"--input={directory} is not a folder; one with {wanted} is wanted.")
    file = next((path for path in listed_files(directory, stem) if path.is_file()), None)
    if file is None:
        raise InputError(f"--input={directory} has no {stem}.pkl and no {stem}.mat; {wanted} are wanted.")
    found = read_ground_truth_lists(file, fields, f"the ground truth of {published.title}")
    digest = files.sha256(file)
    told = digest if file.suffix == ".pkl" else ""  # the MATLAB files' hashes are not known here
    notes = published.notes(len(found.imlist), found.judgements, file.name, told)
    entries = judged_entries(found, directory / PHOTOS, str(file))
    return JudgedPhotos(entries, found.judgements, protocol, digest, notes)


def listed_files(directory: Path, stem: str) -> tuple[Path, Path]:
    """Returns where a ground truth of lists may be, the preferred place first."""
    return directory / f"{stem}.pkl", directory / f"{stem}.mat"


def judged_entries(found: ListedGroundTruth, photos: Path, named_by: str) -> tuple[PhotoEntry, ...]:
    """Returns the queries and the database photos of lists of names, from a folder with NAME.jpg.

    Args:
        found: the lists.
        photos: the folder.
        named_by: what names the photos, for the error's sentence.

    Raises:
        InputError: photos are missing; the first is named and they are counted.
    """
    entries = tuple(
        PhotoEntry(name, photos / f"{name}.jpg", UNLABELLED, split)
        for split, names in (("queries", found.qimlist), ("database", found.imlist))
        for name in names
    )
    check_photos(named_by, list({entry.path: entry for entry in entries}.values()))
    return entries
