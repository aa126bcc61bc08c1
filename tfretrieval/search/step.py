"""A step of a chain of re-ranking: its settings, as they stand in --rerank, and its work on candidates."""

import abc
import dataclasses
import math
from typing import ClassVar

from tfretrieval.errors import InputError
from tfretrieval.search.candidates import Candidates
from tfretrieval.search.exact import Progress


def setting(default, *, least=None, most=None, above=None, below=None, choices=()):
    """Makes a field of a `Step`, with its default and the values that are allowed.

    Args:
        default: an int, a float or a str; settings take values of that type.
        least: smallest value.
        most: largest value.
        above: values must be larger.
        below: values must be smaller.
        choices: the only values, of a str.
    """
    limits = {"at least": least, "at most": most, "more than": above, "less than": below}
    return dataclasses.field(default=default, metadata={"limits": limits, "choices": tuple(choices)})


@dataclasses.dataclass(frozen=True)
class Step(abc.ABC):
    """A way to re-rank. Its fields, made by `setting`, are the settings that --rerank takes.

    Steps are deterministic. They never look at junk, and photos that they do not re-order keep their order.

    Raises:
        InputError: when made with a value that is not allowed.
    """

    name: ClassVar[str]
    needs_photos: ClassVar[bool] = False  # or local features, in the candidates' context

    def __post_init__(self):
        for field in dataclasses.fields(self):
            self._check(field, getattr(self, field.name))

    @property
    @abc.abstractmethod
    def depth(self) -> int:
        """How many of each query's first photos the step uses."""

    @abc.abstractmethod
    def apply(self, candidates: Candidates, progress: Progress | None = None) -> Candidates:
        """Returns the candidates as re-ranked.

        Args:
            candidates: with a ranking of `depth` photos or the whole database.
            progress: makes a progress bar, as `console.progress`.
        """

    def settings(self) -> dict[str, object]:
        """Returns all settings by name, those left at their defaults too: what a result file notes."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        settings = ",".join(f"{name}={_written(value)}" for name, value in self.settings().items())
        return f"{self.name}:{settings}"

    @classmethod
    def parse(cls, text: str) -> "Step":
        """Makes a step from `name=value,name=value`, which may be empty.

        Raises:
            InputError: a setting that the step does not have, has twice, or has another kind of value.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        given: dict[str, object] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, equals, value = (piece.strip() for piece in part.partition("="))
            if name not in fields:
                raise InputError(
                    f"--rerank={cls.name}: {name!r} is not a setting of it; one of {', '.join(fields)} is wanted."
                )
            if not equals or name in given:
                found = "stands twice" if name in given else "has no value"
                raise InputError(f"--rerank={cls.name}: {name!r} {found}; {name}=VALUE is wanted once.")
            kind = type(fields[name].default)
            try:
                given[name] = kind(value)
            except ValueError:
                raise InputError(f"--rerank={cls.name}: {name}={value}; {_wanted(fields[name])} is wanted.") from None
        return cls(**given)

    def _check(self, field: dataclasses.Field, value) -> None:
        limits, choices = field.metadata["limits"], field.metadata["choices"]
        wrong = value not in choices if choices else False
        if isinstance(value, float):
            wrong = wrong or not math.isfinite(value)
        outside = {
            "at least": lambda bound: value < bound,
            "at most": lambda bound: value > bound,
            "more than": lambda bound: value <= bound,
            "less than": lambda bound: value >= bound,
        }
        wrong = wrong or any(bound is not None and outside[kind](bound) for kind, bound in limits.items())
        if wrong:
            raise InputError(f"--rerank={self.name}: {field.name}={_written(value)}; {_wanted(field)} is wanted.")


def _wanted(field: dataclasses.Field) -> str:
    """Returns what a setting may be, in words."""
    if field.metadata["choices"]:
        return f"one of {', '.join(field.metadata['choices'])}"
    kind = {int: "a whole number", float: "a number"}[type(field.default)]
    limits = [f"{words} {_written(bound)}" for words, bound in field.metadata["limits"].items() if bound is not None]
    return f"{kind} of {' and '.join(limits)}" if limits else kind


def _written(value: object) -> str:
    """Returns a value as --rerank takes it."""
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
