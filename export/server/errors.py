"""How a failure is told to a client: one status code and one short sentence, over gRPC and over REST."""

import re

import grpc

# The real server cuts messages here: a status travels in HTTP/2 trailers, whose size clients limit.
MAX_MESSAGE = 1024

GRPC_CODES = {code.value[0]: code for code in grpc.StatusCode}

# The real server's table from canonical codes to HTTP; every other code is 500.
HTTP_STATUSES = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.UNAUTHENTICATED: 401,
}

_NOISE = re.compile(r"Graph execution error:|Detected at node|Node: '|File \"|<stack traces|\d+ root error|\[\[|$")
_ASSERTION = re.compile(r"^assertion failed: \[((?:(?!\] \[).)*)\]$")
_ROOT_ERROR = re.compile(r"^\(\d+\) [A-Z_ ]+: ")


class StatusError(Exception):
    """A request that cannot be answered.

    Attributes:
        code: the canonical status, a `grpc.StatusCode`.
        message: what the client reads, at most `MAX_MESSAGE` characters and a mark where it was cut.
    """

    def __init__(self, code: grpc.StatusCode, message: str):
        self.code = code
        self.message = message if len(message) <= MAX_MESSAGE else message[:MAX_MESSAGE] + "...TRUNCATED"
        super().__init__(self.message)

    @property
    def http_status(self) -> int:
        """The HTTP status that stands for `code`."""
        return HTTP_STATUSES.get(self.code, 500)


def invalid(message: str) -> StatusError:
    """Returns the `StatusError` of a wrong request (INVALID_ARGUMENT, HTTP 400)."""
    return StatusError(grpc.StatusCode.INVALID_ARGUMENT, message)


def useful_line(message: str) -> str:
    """Returns the line of a TensorFlow error that says what happened, without node names and stack traces.

    The text of a model's own assertion is taken out of its brackets.
    """
    lines = (line.strip() for line in message.splitlines())
    told = next((line for line in lines if not _NOISE.match(line)), message.strip())
    return _ASSERTION.sub(r"\1", _ROOT_ERROR.sub("", told))
