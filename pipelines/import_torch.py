"""Imports a published PyTorch checkpoint as a run, without running anything that the file holds.

Example: python -m pipelines.import_torch --checkpoint=retrievalSfM120k-resnet101-gem.pth --output=runs/gem101
"""

from absl import flags

from pipelines import script
from tfretrieval import console, layers
from tfretrieval.errors import InputError
from tfretrieval.importing.architectures import ARCHITECTURES
from tfretrieval.importing.formats import FORMATS, read_published
from tfretrieval.importing.published import ImportOptions
from tfretrieval.importing.run import import_network, write_imported_run

FLAGS = flags.FLAGS
SHOWN = 8

flags.DEFINE_string("checkpoint", None, "PyTorch file (.pth, .pt, .pth.tar).", required=True)
flags.DEFINE_string("output", None, "Run directory to write.", required=True)
flags.DEFINE_enum("format", "auto", ["auto", *FORMATS], "Code that wrote the file; told from its content by default.")
flags.DEFINE_enum("architecture", None, list(ARCHITECTURES), "Backbone, where neither the file nor its tensors tell.")
flags.DEFINE_enum(
    "pooling", None, list(layers.POOLINGS), "torchvision: the pooling, gem by default; cvnet: gem or superglobal."
)
flags.DEFINE_integer("image_size", 1024, "Longer side in pixels of photos at scale 1.", lower_bound=16)
flags.DEFINE_list("scales", ["1"], "Factors on the photo's sides, numbers joined by commas.")
flags.DEFINE_string(
    "whitening", None, "Name of a whitening in the file's meta, or an .npz file of mean and projection."
)


def tell(kind: str, names: list[str]) -> None:
    """Prints how many tensors there are of a kind, and the first of their names."""
    shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
    console.say(f"{len(names)} tensor{'' if len(names) == 1 else 's'} {kind}{': ' if names else ''}{shown}")


def main() -> None:
    """Reads, builds, writes, and prints what became of the tensors."""
    try:
        scales = tuple(float(scale) for scale in FLAGS.scales)
    except ValueError:
        raise InputError(f"--scales={','.join(FLAGS.scales)}; numbers joined by commas are wanted.") from None
    options = ImportOptions(FLAGS.architecture, FLAGS.pooling)
    published = read_published(FLAGS.checkpoint, FLAGS.format, options)
    imported = import_network(published, scales, FLAGS.whitening)
    write_imported_run(imported, FLAGS.checkpoint, FLAGS.image_size, FLAGS.output, script.flag_values(main))
    report, width = imported.report, imported.model.output_shape[-1]
    console.say(
        f"{report['format']}: {report['architecture']}, {report['pooling']}, {width} dimensions, mean "
        f"{report['mean']}, std {report['std']}, whitening {report['whitening'] or 'none'}, scales {report['scales']}"
    )
    console.say(f"{len(report['tensors_used'])} tensors used")
    tell("of a classifier left out", report["tensors_of_classifier"])
    tell("unused", report["tensors_unused"])
    console.say(f"wrote {FLAGS.output}; export, extract and whiten take it as they take any run")


def run() -> None:
    """Runs the script from the command line."""
    script.run_main(main)


if __name__ == "__main__":
    run()
