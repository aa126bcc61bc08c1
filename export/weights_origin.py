"""Where an exported network's weights began, and what is known of the terms they come under."""

from collections.abc import Mapping

from tfretrieval import backbones

_UNKNOWN = "not known to this toolkit; whoever publishes the weights says"
_APPLICATIONS = "https://keras.io/api/applications/"
# What Keras says of those that it ported from others' releases, and of the rest.
_KERAS_TERMS = {
    "VGG": "Creative Commons Attribution, as released by VGG at Oxford and ported by Keras",
    "ResNet": "MIT, as released by Kaiming He and ported by Keras",
    "": f"published with Keras (Apache 2.0); terms of single networks: {_APPLICATIONS}",
}
# The data, not the weights: what stands in the way of commercial use may be either.
_DATA_TERMS = {"imagenet": "ImageNet-1k, whose terms of access allow research and education without profit"}


def weights_origin(training: Mapping) -> dict:
    """Tells the origin of a network's weights, for its card.

    What is said of licences is a pointer for the person who decides, not advice.

    Args:
        training: the run's description; empty for a bare `.keras` file.

    Returns:
        `from`: what training began from; `licence` and `trained_on` of these weights; `sha256` of their file where
        there was one.
    """
    imported, descriptor = training.get("imported") or {}, training.get("descriptor") or {}
    told = {
        "from": "not known: the model came without its run",
        "licence": _UNKNOWN,
        "trained_on": None,
        "sha256": None,
    }
    if imported:
        return told | {"from": f"an imported checkpoint of the format {imported.get('format')}"}
    if not descriptor:
        return told
    weights, backbone = descriptor.get("weights"), descriptor.get("backbone")
    if not weights:
        return told | {"from": "random weights", "licence": "none: nothing came from outside"}
    told |= {"from": f"{weights} ({backbone})", "sha256": (training.get("data") or {}).get("weights")}
    if weights == "imagenet" and backbone in backbones.BACKBONES:
        source = backbones.BACKBONES[backbone].source
        name = source.removeprefix("keras.applications.")
        if name == source:
            return told | {"from": f"{backbones.BACKBONES[backbone].published} of KerasHub ({backbone})"}
        kind = "VGG" if name.startswith("VGG") else "ResNet" if name in ("ResNet50", "ResNet101", "ResNet152") else ""
        return told | {
            "from": f"ImageNet weights of {source}",
            "licence": _KERAS_TERMS[kind],
            "trained_on": _DATA_TERMS["imagenet"],
        }
    return told
