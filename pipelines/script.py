"""What every script shares: starting up quietly, one-sentence errors, and flags that can be repeated."""

import sys
from collections.abc import Callable
from pathlib import Path

from absl import app, flags, logging

from tfretrieval import files
from tfretrieval.errors import InputError

FLAGS = flags.FLAGS


def run_main(main: Callable[[], None]) -> None:
    """Parses the command line and runs a script's `main`, which takes no arguments.

    An `InputError` is printed as its one sentence, with exit status 2 and no traceback; Ctrl-C ends with status 130.

    Args:
        main: the script's work; reads `absl.flags.FLAGS`.
    """

    def wrapped(argv: list[str]) -> None:
        logging.set_verbosity(logging.WARNING)
        if len(argv) > 1:
            sys.exit(f"error: {argv[1]!r} is not a flag; flags are written --name=value.")
        try:
            main()
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("\ninterrupted", file=sys.stderr)
            sys.exit(130)

    app.run(wrapped)


def flag_values(main: Callable[[], None]) -> dict[str, object]:
    """Returns the values of the flags that the script of `main` defines or adopts, by name, sorted."""
    module = sys.argv[0] if main.__module__ == "__main__" else main.__module__  # as absl names its modules
    return {
        flag.name: flag.value for flag in sorted(FLAGS.get_key_flags_for_module(module), key=lambda flag: flag.name)
    }


def save_flags(main: Callable[[], None], output: str | Path) -> None:
    """Writes `output/flags.txt`, which `--flagfile=output/flags.txt` reads to repeat the run."""
    values = flag_values(main)
    lines = [FLAGS[name].serialize() for name, value in values.items() if value is not None]
    files.write_text(Path(output) / "flags.txt", "\n".join(line for line in lines if line) + "\n")
