"""Requests of HTTP made wrong, seeded: bodies, paths, first lines and headers; and those of gRPC in turn with them."""

import base64
import json
from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.served.mutated_messages import MESSAGES, Attack, changed_bytes
from benchmarks.served.serving import MODEL

PREDICT = f"/v1/models/{MODEL}:predict"
ANY_HTTP = frozenset({200, 400, 404})
BAD_BODY = frozenset({400})
# Refusals of HTTP itself; 499 is for a client that sent less than it said.
BAD_HTTP = frozenset({400, 404, 413, 414, 431, 499, 501, 505})
_ALPHABET = tuple('{}[]:,"\\0189.-eE+ntrufalsib64 \n\0\xff\u20ac')


def mutated_requests(count: int, seed: int, photo: bytes) -> Iterator[Attack]:
    """Yields requests of all kinds in turn, over gRPC and over HTTP.

    Args:
        count: how many.
        seed: of the draws; the request of a number depends on nothing else.
        photo: a photo that the server describes, small.
    """
    for number in range(count):
        make = _KINDS[number % len(_KINDS)]
        yield make(np.random.default_rng([seed, 1, number]), photo)


def _good_body(random: np.random.Generator, photo: bytes) -> dict:
    cell = {"b64": base64.b64encode(photo).decode()}
    return [{"instances": [cell]}, {"instances": [{"image_bytes": cell}]}, {"inputs": [cell]}][random.integers(3)]


def _json(random: np.random.Generator, photo: bytes) -> Attack:
    """A right body with characters of JSON's own changed, most of them outside of the photo."""
    text = json.dumps(_good_body(random, photo if random.integers(2) else b"x"))
    for _ in range(random.integers(1, 4)):
        near = int(random.integers(len(text) + 1)) if random.integers(4) == 0 else int(random.integers(40))
        end = near + int(random.integers(3))
        text = text[:near] + "".join(random.choice(_ALPHABET, random.integers(3))) + text[end:]
    return Attack("JSON", PREDICT, text.encode("utf-8", "replace"), ANY_HTTP)


_WORDS = ("instances", "inputs", "signature_name", "image_bytes", "b64", "images", "boxes", "query", "delg", "card", "")
_LEAVES = (None, True, False, 0, -1, 1.5, 255, 256, 2**63, 1e308, "x", "QQ==", "serving_default", *_WORDS)


def _tree(random: np.random.Generator, depth: int = 0) -> object:
    """Makes a JSON value of the API's own words, nested at random."""
    how = random.integers(3) if depth < 5 else 2
    if how == 0:
        return [_tree(random, depth + 1) for _ in range(random.integers(4))]
    if how == 1:
        return {_WORDS[random.integers(len(_WORDS))]: _tree(random, depth + 1) for _ in range(random.integers(4))}
    return _LEAVES[random.integers(len(_LEAVES))]


def _words(random: np.random.Generator, photo: bytes) -> Attack:
    """A body whose parts are those of right ones, put together in some way."""
    body = {("instances", "inputs")[random.integers(2)]: _tree(random)}
    if random.integers(2):
        body["signature_name"] = ("images", "query", "delg", "card", "serving_default", "")[random.integers(6)]
    return Attack("JSON of right words", PREDICT, json.dumps(body).encode(), ANY_HTTP)


def _body_bytes(random: np.random.Generator, photo: bytes) -> Attack:
    return Attack(
        "body bytes", PREDICT, changed_bytes(json.dumps(_good_body(random, photo)).encode(), random), ANY_HTTP
    )


_BODIES = (
    b"", b"\xff\xfe", b"\0" * 50, b"null", b"[]", b"1", b'"x"', b"{", b"[" * 100_000, b'{"inputs":' * 20_000,
    b'{"inputs":' + b"[" * 900 + b"1" + b"]" * 900 + b"}",
    b'{"inputs":' + b"[" * 500 + b'"x"' + b"]" * 500 + b"}",
    b'{"inputs":' + b"[" * 60 + b'"x"' + b"]" * 60 + b"}",
    b'{"inputs":' + b'{"x":' * 900 + b"1" + b"}" * 900 + b"}",
    b'{"instances":' + b'[{"b64":' * 450 + b"1" + b"}]" * 450 + b"}",
    b'{"inputs": ' + b"9" * 5000 + b"}", b'{"inputs": -1e999}', b'{"inputs": [NaN]}', b'{"inputs": [Infinity]}',
    b'{"inputs": ["\\ud800"]}', b'{"signature_name": "\\udfff", "inputs": [1]}',
    b'{"\\ud800": 1, "inputs": {"\\ud800": 1}}',
    b'{"instances": [{"b64": "%%%"}]}', b'{"instances": [{"b64": "A"}]}', b'{"instances": [{"b64": 5}]}',
    b'{"instances": [{"b64": "\\u0416\\u0416"}]}', b'{"instances": [{"b64": ""}]}', b'{"instances": [{}]}',
    b'{"instances": [[], []]}', b'{"instances": [[["a"], ["b"]], [["c"]]]}', b'{"inputs": {"image_bytes": [[]]}}',
    b'{"inputs": {"image_bytes": {"b64": "QQ=="}}}', b'{"inputs": [1, "a", null, true, {}]}', b'{"inputs": [null]}',
    b'{"signature_name": "images", "instances": [[[[300, -1, 0.5]]]]}',
    b'{"signature_name": "images", "instances": [[[[1, 2]]]]}', b'{"signature_name": "images", "inputs": [[[[]]]]}',
    b'{"signature_name": "images", "inputs": 1e400}', b'{"signature_name": ["images"], "inputs": [1]}',
    b'{"signature_name": "delg", "inputs": {"input_image": [[[1,2,3]]], "input_scales": [1e39]}}',
    b'{"signature_name": "query", "instances": [{"image_bytes": "x", "boxes": [1, 2, 3]}]}',
    b'{"inputs": {}, "instances": {}}', '{"inputs": ["\u0416"]}'.encode("utf-16"), b'{"inputs": ["a\\u0000b"]}',
)  # fmt: skip


def _body(random: np.random.Generator, _: bytes) -> Attack:
    return Attack("a wrong body", PREDICT, _BODIES[random.integers(len(_BODIES))], BAD_BODY)


_PATHS = (
    "/", "//[", "//[::1", "http://[x]/v1/models/descriptor", "/v1", "/v1/models/", "/v1/models/../../etc/passwd",
    "/v1/models/%2e%2e%2f%2e%2e%2fetc:predict", "/v1/models/..:predict",
    "/v1/models/a%00b:predict", "/v1/models/%ff%fe:predict",
    f"/v1/models/{MODEL}/versions/{'9' * 5000}:predict", f"/v1/models/{MODEL}/versions/-1:predict",
    f"/v1/models/{MODEL}/versions/{2**64}:predict", f"/v1/models/{MODEL}/versions/\xb2:predict",
    f"/v1/models/{MODEL}/labels/..%2f..%2f:predict",
    f"/v1/models/{MODEL}:predict/../../x", f"/v1/models/{MODEL}:delete",
    "/" + "a" * 70_000, "*", "?", "#", f"/v1/models/{'x' * 60_000}:predict", "\xff\xff",
)  # fmt: skip


def _path(random: np.random.Generator, _: bytes) -> Attack:
    method, path = ("GET", "POST")[random.integers(2)], _PATHS[random.integers(len(_PATHS))]
    body = b'{"inputs": [""]}' if method == "POST" else b""
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    return Attack("a path", "", head.encode("latin-1") + body, BAD_HTTP)


_HEADERS = (
    "Content-Length: -1", "Content-Length: 1e9", "Content-Length: 99999999999999999999",
    "Content-Length: 5\r\nContent-Length: 6",
    "Content-Length: 999999999999", "Content-Length: \xb2", "Transfer-Encoding: chunked", "Content-Encoding: gzip",
    "Content-Length: 50", ": nothing", "\0: \0", "A" * 70_000 + ": b", "\r\n".join(f"H{n}: x" for n in range(300)),
    "Content-Length: 0\r\n folded", "Expect: 100-continue\r\nContent-Length: 99999999999",
)  # fmt: skip
_LINES = (
    "POST {path} HTTP/9.9", "POST {path} HTTP/1", "POST {path} XTTP/1.1",
    "{path}", "GET", "\0\0\0", "POST {path} HTTP/1.1 more",
    "BREW {path} HTTP/1.1", "POST\t{path}\tHTTP/1.1", "POST {path} HTTP/\xb2.1",
    "CONNECT {path} HTTP/1.1", "A" * 70_000,
)  # fmt: skip


def _headers(random: np.random.Generator, _: bytes) -> Attack:
    """Whole requests with a wrong first line, wrong headers, or noise in them."""
    how, lines = random.integers(3), [f"POST {PREDICT} HTTP/1.1", "Host: x"]
    if how == 0:
        lines[0] = _LINES[random.integers(len(_LINES))].format(path=PREDICT)
    elif how == 1:
        lines.append(_HEADERS[random.integers(len(_HEADERS))])
    content = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    if how == 2:
        content = changed_bytes(content, random) + b"\r\n\r\n"
    return Attack("headers", "", content, BAD_HTTP)


_KINDS: tuple[Callable[[np.random.Generator, bytes], Attack], ...] = (
    *MESSAGES, _json, _body_bytes, _body, _path, _headers, _words,
)  # fmt: skip
