"""What the descriptors of ten objects of a photo cost: a guided student against a detector and a classifier on crops.

The networks of benchmarks.cards_objects with new weights, which cost what trained ones do, on noise. Crops keep their
aspect, so that each of a photo is of a shape of its own and the classifier runs once for each; as one batch, which
would need all of them squashed to one shape, they are timed too.
Example: python -m benchmarks.object_speed
"""

import functools

import tensorflow as tf
from absl import flags

from benchmarks import object_rows, timing
from pipelines import script
from tfretrieval.evaluation.object_analysis import TIMED_OBJECTS, passes_of, timed_pixels
from tfretrieval.models.descriptor import DescriptorConfig, build_descriptor
from tfretrieval.models.detector import build_detector
from tfretrieval.models.guided import GuidedObjectEmbedder

FLAGS = flags.FLAGS

flags.DEFINE_integer("size", 320, "Longer side of the photo in pixels.", lower_bound=32)
flags.DEFINE_integer("crop", object_rows.CROP, "Longer side of the crops in pixels.", lower_bound=32)
flags.DEFINE_integer("rounds", 25, "Timed runs of each side.", lower_bound=1)


def main() -> None:
    """Times the three in turn."""
    classifier = build_descriptor(DescriptorConfig("mobilenet_v2_1.0"))
    student = GuidedObjectEmbedder(build_detector(object_rows.detector_config(None), 6), object_rows.BRANCH)
    passes = passes_of(classifier, student)
    photo, crops = timed_pixels(FLAGS.size, FLAGS.crop)
    squashed = [tf.concat([tf.image.resize(each, (FLAGS.crop, FLAGS.crop * 3 // 4)) for each in crops], axis=0)]

    def side(method: str, some: list[tf.Tensor]):
        run = functools.partial(passes[method], photo, some)
        return lambda: tf.nest.map_structure(lambda value: value.numpy(), run())

    sides = {
        "guided student": side("f", crops),
        "classifier on squashed crops": side("c", squashed),
        "classifier on crops": side("c", crops),
    }
    timing.report(
        "object_speed", timing.in_turn(sides, FLAGS.rounds), TIMED_OBJECTS, script.flag_values(main), unit="objects"
    )


if __name__ == "__main__":
    script.run_main(main)
