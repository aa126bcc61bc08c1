"""Prints or writes the table of backbones: name, stride, dimension, parameters, input scaling, weights.

Example: python -m pipelines.backbones --output=docs/backbones.md
"""

from absl import flags

from pipelines import script
from tfretrieval import console

FLAGS = flags.FLAGS

flags.DEFINE_string("output", None, "Markdown file to write; printed when not given.")
flags.DEFINE_list("backbone", [], "Only these, separated by commas; all when not given.")


def main() -> None:
    """Measures the backbones, without values for their weights, and prints or writes the table."""
    console.quiet_tensorflow()
    from tfretrieval.backbones import table

    names = FLAGS.backbone or list(table.BACKBONES)
    text = table.to_markdown([table.measure(name) for name in console.progress(names, "measuring", unit="backbone")])
    if FLAGS.output is None:
        print(text, end="")
        return
    table.write(FLAGS.output, text)
    console.say(f"wrote {FLAGS.output}: {len(names)} backbones")


def run() -> None:
    """Runs the script from the command line."""
    script.run_main(main)


if __name__ == "__main__":
    run()
