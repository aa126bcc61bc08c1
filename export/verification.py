"""The checks of an export: files, card, graph, and answers to its own warm-up requests."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from export import formats
from export.checksums import CHECKSUMS, wrong_files
from export.example_photos import example_photos
from export.package import ANSWERS, CARD, answers, describe_signatures
from export.parity import compare
from export.reproducible import SAVED_MODEL
from export.served_session import ServedSession
from export.server.errors import useful_line
from export.warmup_requests import read_requests
from tfretrieval import files
from tfretrieval.data import decoding
from tfretrieval.errors import InputError

# How far a descriptor's length may be from 1.
_LENGTH_TOLERANCE = 1e-3
_FACTS = ("dimension", "image_size", "model_sha256", "precision")


@dataclasses.dataclass(frozen=True)
class Result:
    """Outcome of one check.

    Attributes:
        what: what was checked.
        wrong: what is wrong, a sentence each; empty where nothing is.
    """

    what: str
    wrong: tuple[str, ...] = ()


def verify(folder: Path, least_cosine: float = 0.999) -> list[Result]:
    """Checks an export of `export.saved_model`, of any format. Later checks are left out where an earlier one fails.

    Args:
        folder: the version folder, or the folder of another format.
        least_cosine: what descriptors of the warm-up photos, here and where the export was made, have to reach.
    """
    results = [_result(f"files against {CHECKSUMS}", lambda: wrong_files(folder))]
    card: dict = {}
    results.append(_result(CARD, lambda: _read_card(folder, card)))
    if any(result.wrong for result in results):
        return results
    if "format" in card:
        return [*results, _result(f"the {card['format']} file describes photos", lambda: _wrong_file(folder, card))]
    return results + _verify_graph(folder, card, least_cosine)


def _verify_graph(folder: Path, card: Mapping, least_cosine: float) -> list[Result]:
    try:
        session = ServedSession(folder)
    except InputError as error:
        return [Result("loads into a session, as a server loads it", (str(error),))]
    with session:
        return [
            Result("loads into a session, as a server loads it"),
            _result("signatures against the card", lambda: _wrong_signatures(session, card)),
            _result("the signature card against the card", lambda: _wrong_served_card(session, card)),
            _result("answers its warm-up requests", lambda: _wrong_answers(session, folder, card, least_cosine)),
        ]


def _result(what: str, find: Callable[[], list[str]]) -> Result:
    """Runs a check; an input that cannot be read, and a graph that refuses, are what is wrong."""
    try:
        return Result(what, tuple(find()))
    except InputError as error:
        return Result(what, (str(error),))
    except tf.errors.OpError as error:
        return Result(what, (useful_line(error.message),))


def _read_card(folder: Path, card: dict) -> list[str]:
    card.update(files.read_json(folder / CARD, "a descriptor's card"))
    told = card.get("descriptor")
    if not isinstance(told, dict):
        return ["it has no descriptor"]
    wrong = [f"its descriptor has no {name}" for name in _FACTS if name not in told]
    if "format" not in card and not isinstance(card.get("signatures"), dict):
        wrong.append("it tells no signatures")
    if card.get("format", formats.KERAS) not in formats.FILES:
        wrong.append(f"its format {card['format']!r} is none of {', '.join(formats.FILES)}")
    if "format" not in card and not (folder / SAVED_MODEL).is_file():
        wrong.append(f"it is a SavedModel's, and {SAVED_MODEL} is missing")
    return wrong


def _wrong_signatures(session: ServedSession, card: Mapping) -> list[str]:
    told, found = card["signatures"], describe_signatures(session.signatures)
    wrong = [f"the card tells {name} and the graph has none" for name in told if name not in found]
    wrong += [f"the graph has {name} and the card does not tell it" for name in found if name not in told]
    wrong += [f"{name} is not what the card tells" for name in found if name in told and told[name] != found[name]]
    dimension = card["descriptor"]["dimension"]
    outputs = found.get("serving_default", {}).get("outputs", {}).get("descriptors", {})
    if outputs.get("shape", [None])[-1] != dimension:
        wrong.append(f"descriptors are of the shape {outputs.get('shape')} and the card tells {dimension} dimensions")
    return wrong


def _wrong_served_card(session: ServedSession, card: Mapping) -> list[str]:
    if "card" not in session.signatures:
        return ["the graph has no signature card"]
    served = json.loads(session("card", {})["card"])
    return [
        f"{name} is {served.get(name)!r} in the graph and {card['descriptor'].get(name)!r} in {CARD}"
        for name in sorted({*served, *card["descriptor"]})
        if served.get(name) != card["descriptor"].get(name)
    ]


def _wrong_answers(session: ServedSession, folder: Path, card: Mapping, least_cosine: float) -> list[str]:
    requests = read_requests(folder)
    unknown = sorted({request.model_spec.signature_name for request in requests} - session.signatures.keys())
    if unknown:
        return [f"a request is for the signature {name}, which the graph does not have" for name in unknown]
    found = [row for row in answers(session, requests) if row is not None]
    if not found:
        return ["no request is for descriptors"]
    descriptors = np.concatenate(found)
    wrong = _wrong_descriptors(descriptors, card["descriptor"]["dimension"])
    try:
        expected = np.load(folder / ANSWERS, allow_pickle=False)
    except (OSError, ValueError) as error:
        return [*wrong, f"{ANSWERS} cannot be read: {error}"]
    if not wrong and expected.shape != descriptors.shape:
        return [f"{ANSWERS} is of the shape {expected.shape} and the answers are of {descriptors.shape}"]
    if not wrong:
        cosine = compare({"made": expected, "here": descriptors}).min_cosine
        if not cosine >= least_cosine:
            wrong.append(f"a descriptor's cosine to the one of where it was made is {cosine:.6f}, below {least_cosine}")
    return wrong


def _wrong_descriptors(descriptors: np.ndarray, dimension: int) -> list[str]:
    """Says what is wrong with descriptors, float32 [N, D]."""
    if descriptors.ndim != 2 or descriptors.shape[1] != dimension:
        return [f"descriptors are of the shape {descriptors.shape} and the card tells {dimension} dimensions"]
    off = np.abs(np.linalg.norm(descriptors.astype(np.float64), axis=1) - 1)
    return [] if (off <= _LENGTH_TOLERANCE).all() else ["a descriptor is not of length 1"]  # NaN is not either


def _wrong_file(folder: Path, card: Mapping) -> list[str]:
    told = card["descriptor"]
    opened = formats.open_file(folder / formats.FILES[card["format"]], card["format"], told["dimension"])
    if isinstance(opened, str):
        return []
    photos = (
        decoding.decode_photo(tf.constant(photo), told["image_size"]) for photo in example_photos(told["image_size"])
    )
    return _wrong_descriptors(np.concatenate([opened(photo[tf.newaxis]) for photo in photos]), told["dimension"])
