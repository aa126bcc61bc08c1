"""Messages that cannot be read, refused as what they are: the client's fault.

gRPC itself answers them INTERNAL, which clients and alarms take for a fault of the server.
"""

import functools
from collections.abc import Callable, Iterator

import grpc
from absl import logging
from google.protobuf import message


class _Unreadable:
    """Stands for a message that is not what it should be."""


class ReadableMessages(grpc.ServerInterceptor):
    """Answers INVALID_ARGUMENT to a message that does not parse as its method's type."""

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        """Returns what answers a request."""
        handler = continuation(handler_call_details)
        if handler is None or handler.request_deserializer is None:
            return handler
        method = handler_call_details.method
        if handler.request_streaming:
            # Of methods that take a stream, the services here have those that answer with one only.
            make, behaviour = grpc.stream_stream_rpc_method_handler, _of_readable_stream(handler.stream_stream, method)
        elif handler.response_streaming:
            make, behaviour = grpc.unary_stream_rpc_method_handler, _of_readable(handler.unary_stream, method)
        else:
            make, behaviour = grpc.unary_unary_rpc_method_handler, _of_readable(handler.unary_unary, method)
        return make(behaviour, _lenient(handler.request_deserializer), handler.response_serializer)


def _lenient(parse: Callable[[bytes], object]) -> Callable[[bytes], object]:
    def parsed(content: bytes) -> object:
        try:
            return parse(content)
        except message.DecodeError:
            return _Unreadable()

    return parsed


def _of_readable(behaviour: Callable, method: str) -> Callable:
    @functools.wraps(behaviour)  # with the pool that it runs in
    def run(request: object, context: grpc.ServicerContext) -> object:
        _check(request, method, context)
        return behaviour(request, context)

    return run


def _of_readable_stream(behaviour: Callable, method: str) -> Callable:
    def checked(requests: Iterator[object], context: grpc.ServicerContext) -> Iterator[object]:
        for request in requests:
            _check(request, method, context)
            yield request

    @functools.wraps(behaviour)
    def run(requests: Iterator[object], context: grpc.ServicerContext) -> Iterator[object]:
        return behaviour(checked(requests, context), context)

    return run


def _check(request: object, method: str, context: grpc.ServicerContext) -> None:
    if isinstance(request, _Unreadable):
        logging.debug("a message to %s does not parse", method)
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"The message does not parse as the request of {method}.")
