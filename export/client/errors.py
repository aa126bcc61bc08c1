"""What a client says when a request ends without an answer."""

import re

import grpc


class ServingError(RuntimeError):
    """A server refused a request, could not be reached, or answered something that is not descriptors.

    Attributes:
        code: the status, a `grpc.StatusCode`.
        message: what is wrong, in one line.
        photos: places in the caller's photos of those that the message names; empty where it names none.
    """

    def __init__(self, code: grpc.StatusCode, message: str, photos: tuple[int, ...] = ()):
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message
        self.photos = photos


class CallFailed(Exception):  # noqa: N818 - it is caught and turned into a `ServingError`, never shown
    """One attempt ended with a status that is not OK.

    Attributes:
        code: the status.
        details: what the server, or gRPC itself, says.
    """

    def __init__(self, code: grpc.StatusCode, details: str | None):
        super().__init__(code, details)
        self.code = code
        self.details = details or ""

    def told(self, address: str) -> ServingError:
        """Returns the error that callers see, in one line.

        The real server leaves its graph's nodes and an assertion's frame around what it says; these are taken off.

        Args:
            address: of the server.
        """
        line = self.details.strip().split("\n", 1)[0]
        line = re.sub(r"^assertion failed: \[((?:(?!\] \[).)*)\]$", r"\1", line)
        return ServingError(self.code, f"{line or 'no details'} ({address})")


def with_callers_places(error: ServingError, input_name: str, places: tuple[int, ...]) -> ServingError:
    """Returns a refusal whose row numbers count the caller's photos instead of the request's.

    Args:
        error: a refusal, which may name rows as `image_bytes[3]`.
        input_name: the input that rows are named by.
        places: the caller's place of each row of the request.
    """
    named: list[int] = []

    def renumber(match: re.Match) -> str:
        row = int(match[1])
        if row >= len(places):
            return match[0]
        named.append(places[row])
        return f"{input_name}[{places[row]}]"

    message = re.sub(rf"\b{re.escape(input_name)}\[(\d+)\]", renumber, error.message)
    if not named and places:
        message = f"among photos {places[0]} to {places[-1]}: {message}"
    return ServingError(error.code, message, tuple(dict.fromkeys(named)))
