"""Where a job runs: settings that are known without Apache Beam."""

import dataclasses
import importlib.util
import shlex

from tfretrieval.errors import InputError


@dataclasses.dataclass(frozen=True)
class BeamOptions:
    """Where a job runs; `pipelines.make_records`, `pipelines.extract` and `pipelines.knn_graph` have a flag for each.

    Attributes:
        runner: Apache Beam runner to do the work with, as DirectRunner, FlinkRunner, SparkRunner or DataflowRunner;
            without it this process does the work, without Beam. docs/beam.md tells what each wants.
        pipeline_options: With --runner: Beam's options in one word, "--direct_num_workers=4 --job_name=photos".
        mounts: With --runner: for workers that see files elsewhere, LOCAL=REMOTE words with commas between them, as
            /mnt/photos=gs://photos; without it, the same paths lead to the same files everywhere.
    """

    runner: str | None = None
    pipeline_options: str | None = None
    mounts: str | None = None

    def __post_init__(self):
        for name in ("pipeline_options", "mounts"):
            if getattr(self, name) and not self.runner:
                raise InputError(f"--{name}={getattr(self, name)} is of --runner, which is not given.")
        self.words()
        self.mounted()

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Returns the names of the settings: none of them is a matter of what is made."""
        return tuple(field.name for field in dataclasses.fields(cls))

    def words(self) -> list[str]:
        """Returns the words of `pipeline_options`.

        Raises:
            InputError: they are no options, or name the runner once more.
        """
        try:
            words = shlex.split(self.pipeline_options or "")
        except ValueError as error:
            raise InputError(
                f"--pipeline_options={self.pipeline_options} cannot be divided into words: {error}."
            ) from None
        for word in words:
            if not word.startswith("--") or word.split("=")[0] == "--runner":
                raise InputError(
                    f"--pipeline_options has the word {word!r}; words --NAME=VALUE are wanted, the runner by --runner."
                )
        return words

    def mounted(self) -> tuple[tuple[str, str], ...]:
        """Returns `mounts` as pairs.

        Raises:
            InputError: one of them is not LOCAL=REMOTE.
        """
        pairs = [
            tuple(part.strip() for part in word.split("=", 1))
            for word in (self.mounts or "").split(",")
            if word.strip()
        ]
        for pair in pairs:
            if len(pair) != 2 or not all(pair):
                raise InputError(f"--mounts has the word {'='.join(pair)!r}; LOCAL=REMOTE is wanted.")
        return tuple((local.rstrip("/"), remote.rstrip("/")) for local, remote in pairs)

    def check_installed(self) -> None:
        """Checks that Apache Beam is there.

        Raises:
            InputError: it is not.
        """
        if importlib.util.find_spec("apache_beam") is None:
            raise InputError(
                f"--runner={self.runner} needs Apache Beam, which is not installed; "
                "pip install --no-deps -r requirements-beam.txt is wanted."
            )
