"""Re-ranking on saved descriptors: chains of steps, written `aqe:k=50,alpha=3 | diffusion:k=50`."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from tfretrieval.errors import InputError
from tfretrieval.search.candidates import Candidates, Context
from tfretrieval.search.database_augmentation import DatabaseAugmentation
from tfretrieval.search.diffusion import Diffusion
from tfretrieval.search.exact import Progress, check_descriptors
from tfretrieval.search.geometric_verification import GeometricVerification
from tfretrieval.search.k_reciprocal import KReciprocal
from tfretrieval.search.query_expansion import (
    AlphaQueryExpansion,
    AverageQueryExpansion,
    DiscriminativeQueryExpansion,
)
from tfretrieval.search.ranking import Ranking
from tfretrieval.search.step import Step
from tfretrieval.search.superglobal import SuperGlobal

# Steps by their names in --rerank.
RERANKERS: dict[str, type[Step]] = {
    step.name: step
    for step in (
        AverageQueryExpansion,
        AlphaQueryExpansion,
        DiscriminativeQueryExpansion,
        DatabaseAugmentation,
        Diffusion,
        KReciprocal,
        SuperGlobal,
        GeometricVerification,
    )
}


@dataclasses.dataclass(frozen=True)
class Chain:
    """Steps of re-ranking, one after the other; `str` gives them as --rerank takes them, with every setting.

    Attributes:
        steps: one or more.
    """

    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return " | ".join(map(str, self.steps))

    @property
    def depth(self) -> int:
        """How many of each query's first photos some step uses."""
        return max(step.depth for step in self.steps)

    @property
    def needs_photos(self) -> bool:
        """Whether a step needs photos or local features in the `Context`."""
        return any(step.needs_photos for step in self.steps)

    def described(self) -> list[dict[str, object]]:
        """Returns each step's name, as "method", and all its settings: what a result file notes."""
        return [{"method": step.name, **step.settings()} for step in self.steps]

    def rerank(
        self,
        queries: np.ndarray,
        database: np.ndarray,
        junk: Sequence[np.ndarray] | None = None,
        progress: Progress | None = None,
        keep: int | None = None,
        context: Context | None = None,
    ) -> Ranking:
        """Searches, then applies the steps.

        The junk rule: with `junk`, those rows are taken out of every candidate list before any step uses it, as DELG,
        CVNet and AMES do; they stand last in the ranking, behind all others, with similarity -inf. Without it, as plain
        query expansion and SuperGlobal were published, steps use every photo, and a metric leaves junk out afterwards.
        A protocol with several junk sets (Easy, Medium, Hard) takes one call for each. Deterministic.

        Photos that no step re-orders stay behind those that one does, in the order of the dot products.

        Memory beside the database: 16 * Q * max(keep, depth) bytes for the rankings, that of `search_top` and that of
        the steps, told in their docstrings. The full ranking of 70 queries in 1,000,000 photos takes 1.1 GB; where that
        is too much, see `candidates`.

        Args:
            queries: float32 [Q, D], L2-normalised.
            database: float32 [N, D], L2-normalised; in memory or memory-mapped.
            junk: for each query, int rows of the database; or None.
            progress: makes progress bars, as `console.progress`; None tells nothing.
            keep: photos of each query's ranking to return; None returns all.
            context: readers of photos or local features, which `gv` needs; a folder for large files. Calls that share
                one, for the junk of several conditions, share what steps make of the database alone.

        Returns:
            `Ranking` [Q, min(keep, N)].

        Raises:
            InputError: descriptors that do not fit, junk that is not in the database, or a step lacks what it needs.
        """
        ranking = self.candidates(queries, database, junk, progress, keep, context).ranking
        return ranking if keep is None else Ranking(ranking.order[:, :keep], ranking.similarity[:, :keep])

    def candidates(
        self,
        queries: np.ndarray,
        database: np.ndarray,
        junk: Sequence[np.ndarray] | None = None,
        progress: Progress | None = None,
        keep: int | None = None,
        context: Context | None = None,
    ) -> Candidates:
        """Does what `rerank` does, and returns what exact metrics of large databases need beside the first photos.

        The places of photos beyond the ranking follow by counting, without a sort: all rows of the returned `database`
        that are neither in the ranking nor junk come behind it, by their dot product with the returned `queries` (which
        differ from those given after query expansion), the lower row first among equals.

        Args:
            queries: see `rerank`.
            database: see `rerank`.
            junk: see `rerank`.
            progress: see `rerank`.
            keep: see `rerank`; at least `depth` are kept.
            context: see `rerank`.

        Returns:
            `Candidates`, with a ranking of min(max(keep, depth), N) photos.
        """
        check_descriptors(queries, database)
        if keep is not None and keep < 1:
            raise InputError(f"{keep} photos of each re-ranked query are asked for; at least 1 is wanted.")
        _check_context(self, context or Context())
        count = len(database)
        keep = count if keep is None else min(count, max(keep, self.depth))
        found = Candidates.search(queries, database, keep, junk, progress, context)
        for step in self.steps:
            found = step.apply(found, progress)
        return found


def parse_chain(text: str) -> Chain:
    """Makes a chain of `method:setting=value,setting=value | method`, the value of --rerank.

    Settings left out have their defaults. Methods are the keys of `RERANKERS`, settings the fields of their classes.

    Raises:
        InputError: no method, an unknown one, or a wrong setting; the sentence names flag, method and setting.
    """
    steps = []
    for part in text.split("|"):
        name, _, settings = (piece.strip() for piece in part.partition(":"))
        if name not in RERANKERS:
            raise InputError(
                f"--rerank={text}: {name!r} is not a method of re-ranking; one of {', '.join(RERANKERS)} is wanted."
            )
        steps.append(RERANKERS[name].parse(settings))
    return Chain(tuple(steps))


def _check_context(chain: Chain, context: Context) -> None:
    """Checks, before any work, that steps which need photos or local features have them."""
    for step in chain.steps:
        if not step.needs_photos:
            continue
        for what, given in (
            ("queries", (context.query_photo, context.query_features)),
            ("database", (context.database_photo, context.database_features)),
        ):
            if all(value is None for value in given):
                raise InputError(
                    f"--rerank={step.name}: neither photos nor local features of the {what} are given; one of them is "
                    "wanted."
                )
