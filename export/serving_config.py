"""Writes what hosts models in the public TensorFlow Serving image: configuration files, Docker Compose, Kubernetes.

Example: python -m export.serving_config --model=descriptor:models/descriptor --output=serving
"""

from absl import flags

from export.serving import files
from export.serving.deployment import Deployment, parse_models
from pipelines import script
from tfretrieval import console

FLAGS = flags.FLAGS

flags.DEFINE_multi_string("model", [], "NAME:PATH of a model's folder of versions; may be repeated.")
flags.DEFINE_string("output", None, "Folder for the files.", required=True)
script.define_flags(Deployment)


def main() -> None:
    """Writes the files and prints how they are used."""
    written = files.write(FLAGS.output, parse_models(FLAGS.model), script.from_flags(Deployment))
    console.say(f"wrote {', '.join(path.name for path in written)} to {FLAGS.output}")
    console.say(f"docker compose --project-directory {FLAGS.output} up  # with --profile monitoring: Prometheus too")
    console.say(f"kubectl apply -f {FLAGS.output}/kubernetes.yaml  # the models lie in the claim --volume_claim names")


def run() -> None:
    """Runs the script from the command line."""
    script.run_main(main)


if __name__ == "__main__":
    run()
