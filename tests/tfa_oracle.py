"""Values and gradients of tensorflow-addons' losses; run by the Python of requirements-tfa.txt.

Usage: python tests/tfa_oracle.py CASES.npz RESULTS.npz
CASES has `KIND/CASE/labels` and `KIND/CASE/inputs`; RESULTS gets `KIND/CASE/OPTIONS/value` and `.../gradient`.
"""

import itertools
import sys

import numpy as np
import tensorflow as tf
import tensorflow_addons as tfa

METRICS = ("L2", "squared-L2", "angular")
MARGINS = (0.3, 1.0)


def of_descriptors():
    """Yields options and a function of labels and descriptors for each loss over a batch."""
    for metric, margin in itertools.product(METRICS, MARGINS):
        yield (
            f"semi_hard-{metric}-{margin}",
            lambda y, x, d=metric, m=margin: tfa.losses.triplet_semihard_loss(y, x, m, distance_metric=d),
        )
        yield (
            f"hard-{metric}-{margin}",
            lambda y, x, d=metric, m=margin: tfa.losses.triplet_hard_loss(y, x, m, distance_metric=d),
        )
    for metric in METRICS:
        yield (
            f"soft-{metric}-0",
            lambda y, x, d=metric: tfa.losses.triplet_hard_loss(y, x, soft=True, distance_metric=d),
        )
    for margin in MARGINS:
        yield f"lifted-L2-{margin}", lambda y, x, m=margin: tfa.losses.lifted_struct_loss(y, x, m)


LOSSES = {
    "descriptors": dict(of_descriptors()),
    "distances": {
        f"contrastive-{margin}": lambda y, x, m=margin: tfa.losses.ContrastiveLoss(m)(y, x) for margin in MARGINS
    },
    "similarities": {"npairs": tfa.losses.npairs_loss},
    "multilabel": {"npairs_multilabel": tfa.losses.npairs_multilabel_loss},
}


def main(cases_file, results_file):
    cases, results = np.load(cases_file), {}
    for kind, case in sorted({tuple(key.split("/")[:2]) for key in cases.files}):
        labels = tf.constant(cases[f"{kind}/{case}/labels"])
        inputs = tf.constant(cases[f"{kind}/{case}/inputs"])
        for options, loss in LOSSES[kind].items():
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                value = loss(labels, inputs)
            results[f"{kind}/{case}/{options}/value"] = value.numpy()
            results[f"{kind}/{case}/{options}/gradient"] = tape.gradient(value, inputs).numpy()
    np.savez(results_file, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
