"""What every script shares: starting up quietly, one-sentence errors, and flags that can be repeated."""

import dataclasses
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from absl import app, flags, logging

from tfretrieval import files, provenance
from tfretrieval.errors import InputError

FLAGS = flags.FLAGS
Settings = TypeVar("Settings")
_DEFINE = {bool: flags.DEFINE_boolean, int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string}


def run_main(main: Callable[..., None], takes: tuple[str, ...] = ()) -> None:
    """Parses the command line and runs a script's `main`.

    An `InputError` is printed as its one sentence, with exit status 2 and no traceback; Ctrl-C ends with status 130.

    Args:
        main: the script's work; reads `absl.flags.FLAGS`.
        takes: what the words on the command line that are no flags are, each of which `main` is given; most scripts
            take none.
    """

    def wrapped(argv: list[str]) -> None:
        logging.set_verbosity(logging.WARNING)
        if len(argv) > 1 + len(takes):
            print(f"error: {argv[1 + len(takes)]!r} is not a flag; flags are written --name=value.", file=sys.stderr)
            sys.exit(2)
        if len(argv) < 1 + len(takes):
            print(
                f"error: {len(argv) - 1} of {len(takes)} arguments; {' and '.join(takes)} are wanted.", file=sys.stderr
            )
            sys.exit(2)
        try:
            main(*argv[1:])
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("\ninterrupted", file=sys.stderr)
            sys.exit(130)

    if main.__module__ != "__main__":  # an installed command: absl looks for help and flags in the program it runs
        sys.modules["__main__"].__doc__ = sys.modules[main.__module__].__doc__
        for flag in FLAGS.get_key_flags_for_module(main.__module__):
            FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    app.run(wrapped)


def flag_values(main: Callable[[], None], without: tuple[str, ...] = ()) -> dict[str, object]:
    """Returns the values of the flags that the script of `main` defines or adopts, by name, sorted.

    Args:
        main: the script's work.
        without: flags to leave out.
    """
    module = sys.argv[0] if main.__module__ == "__main__" else main.__module__  # as absl names its modules
    return {
        flag.name: flag.value
        for flag in sorted(FLAGS.get_key_flags_for_module(module), key=lambda flag: flag.name)
        if flag.name not in without
    }


def save_flags(main: Callable[[], None], output: str | Path) -> None:
    """Writes `output/flags.txt`, which `--flagfile=output/flags.txt` reads to repeat the run."""
    files.write_text(Path(output) / "flags.txt", provenance.flag_file(flag_values(main)))


def define_flags(settings: type, skip: tuple[str, ...] = ()) -> None:
    """Defines a flag for each field of a dataclass, with the field's default and its line of the class's docstring.

    Called by a script's module, whose flags they become. A field whose metadata has "choices" takes one of them;
    "names" are only listed in its help.

    Args:
        settings: a dataclass whose docstring has an "Attributes" section.
        skip: fields that get no flag.
    """
    told = _attributes(settings)
    hints = typing.get_type_hints(settings)
    for field in dataclasses.fields(settings):
        if field.name not in skip:
            kind = hints[field.name]
            if isinstance(kind, types.UnionType):
                kind = next(member for member in typing.get_args(kind) if member is not type(None))
            if names := field.metadata.get("names"):
                told[field.name] += f" One of {', '.join(names)}."
            if choices := field.metadata.get("choices"):
                flags.DEFINE_enum(field.name, field.default, list(choices), told[field.name])
            else:
                _DEFINE[kind](field.name, field.default, told[field.name])
            # absl takes the module that calls DEFINE for the flag's owner; named here, the script lists and saves it.
            FLAGS.register_key_flag_for_module(_calling_script(), FLAGS[field.name])


def from_flags(settings: type[Settings], **given: object) -> Settings:
    """Makes a dataclass value from the flags of its fields, and from `given` for those without one."""
    names = [field.name for field in dataclasses.fields(settings) if field.name not in given]
    return settings(**{name: FLAGS[name].value for name in names}, **given)


def _attributes(settings: type) -> dict[str, str]:
    """Returns the lines of a docstring's "Attributes" section by name, each as one sentence."""
    section = inspect.cleandoc(settings.__doc__).split("Attributes:", 1)[1]
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text).strip() for name, text in entries}


def _calling_script() -> str:
    """Returns the name, as absl has it, of the module outside of this one that is being imported or run."""
    frame = sys._getframe(1)
    while frame.f_globals["__name__"] == __name__:
        frame = frame.f_back
    name = frame.f_globals["__name__"]
    return sys.argv[0] if name == "__main__" else name
