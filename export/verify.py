"""Checks that an export is whole, is what its card says, and works on this machine: what a deployment gate runs.

Exit status 0: all of it; 1: something is wrong, and is told; 2: there is no export to check.
Example: python -m export.verify models/descriptor/1
"""

import sys
from pathlib import Path

from absl import flags

from export import verification
from export.package import CARD
from export.saving import newest_version
from pipelines import script
from tfretrieval import console

FLAGS = flags.FLAGS

flags.DEFINE_float("least_cosine", 0.999, "Least cosine of a descriptor here and where the export was made.", -1, 1)


def main(folder: str) -> None:
    """Checks and prints each result."""
    path = Path(folder)
    version = path if (path / CARD).is_file() else newest_version(path)
    results = verification.verify(version, FLAGS.least_cosine)
    for result in results:
        console.say(f"{'wrong' if result.wrong else 'ok':>5}  {result.what}")
        for problem in result.wrong:
            console.say(f"       {problem}")
    wrong = sum(bool(result.wrong) for result in results)
    console.say(f"{version}: {f'{wrong} of {len(results)} checks failed' if wrong else 'verified'}")
    if wrong:
        sys.exit(1)


def run() -> None:
    """Runs the script from the command line."""
    script.run_main(main, takes=("DIR",))


if __name__ == "__main__":
    run()
