"""Prints an export's signatures: names, types, shapes, what they mean, and an example request of each.

Example: python -m export.inspect models/descriptor
"""

from pathlib import Path

from absl import flags

from export import explaining
from export.package import CARD, describe_signatures
from export.saving import newest_version
from export.served_session import ServedSession
from pipelines import script
from tfretrieval import files

FLAGS = flags.FLAGS

flags.DEFINE_string("model_name", "descriptor", "Name of the model in the example requests.")
flags.DEFINE_string("server", "127.0.0.1", "Host in the example requests.")


def main(folder: str) -> None:
    """Prints what a version offers."""
    path = Path(folder)
    version = path if (path / "saved_model.pb").is_file() else newest_version(path)
    card = files.read_json(version / CARD, "a descriptor's card") if (version / CARD).is_file() else {}
    with ServedSession(version) as session:
        signatures = describe_signatures(session.signatures)
    print(explaining.explain(version, card, signatures, FLAGS.model_name, FLAGS.server))


def run() -> None:
    """Runs the script from the command line."""
    script.run_main(main, takes=("DIR",))


if __name__ == "__main__":
    run()
