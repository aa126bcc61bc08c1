"""Names of the functions in a TensorFlow graph, numbered by where they are used instead of when they were made."""

import re
from collections.abc import Callable, Iterable, Iterator

from google.protobuf.message import Message
from tensorflow.core.framework import attr_value_pb2, graph_pb2, node_def_pb2, tensor_pb2, types_pb2

# "__inference_describe_1577": what a function is called, and how many things the process had made before it.
_NUMBER = re.compile(r"_\d+$")


def all_nodes(definition: graph_pb2.GraphDef) -> Iterator[node_def_pb2.NodeDef]:
    """Yields the nodes of a graph and of its functions."""
    yield from definition.node
    for function in definition.library.function:
        yield from function.node_def


def number_functions(definition: graph_pb2.GraphDef, within: Message | None = None, first: Iterable[str] = ()) -> None:
    """Renames a graph's functions so that their numbers tell the order in which they are reached, and sorts them so.

    Args:
        definition: the graph, changed in place.
        within: the message that the graph is a part of, where that names functions too; the graph itself by default.
        first: functions to go through after those that the graph's nodes call.
    """
    names = {old: f"{_NUMBER.sub('', old)}_{number}" for number, old in enumerate(_reached(definition, first))}
    rename(definition if within is None else within, names)
    place = {name: number for number, name in enumerate(names.values())}
    definition.library.function.sort(key=lambda function: place[function.signature.name])


def rename(message: Message, names: dict[str, str]) -> None:
    """Renames what a message names, as parts of longer names too: a loop's arguments have their function's in theirs.

    Args:
        message: a graph, or what holds one; changed in place.
        names: new names by old ones.
    """
    if names:
        longest_first = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
        pattern = re.compile(f"({longest_first})(?!\\d)")
        _change_texts(message, lambda text: pattern.sub(lambda found: names[found[1]], text))


def name_resources(definition: graph_pb2.GraphDef) -> None:
    """Names functions' arguments and results that are variables by their places, which are numbered by the process.

    Args:
        definition: the graph, changed in place.
    """
    for function in definition.library.function:
        sides = {"resource": function.signature.input_arg, "resource_out": function.signature.output_arg}
        names = {
            argument.name: f"{side}_{place}"
            for side, arguments in sides.items()
            for place, argument in enumerate(arguments)
            if argument.type == types_pb2.DT_RESOURCE
        }
        rename(function, names)


def _reached(definition: graph_pb2.GraphDef, first: Iterable[str]) -> list[str]:
    """Returns all functions: those that nodes call, in order, each before those that it calls itself; then the rest."""
    functions = {function.signature.name: function for function in definition.library.function}
    found: dict[str, None] = {}

    def visit(names: Iterable[str]) -> None:
        waiting = [iter(names)]
        while waiting:  # depth first, without Python's own recursion: graphs may be deep
            name = next(waiting[-1], None)
            if name is None:
                waiting.pop()
            elif name in functions and name not in found:
                found[name] = None
                waiting.append(_called(functions[name].node_def))

    visit(_called(definition.node))
    visit(first)
    visit(sorted(functions, key=lambda name: (_NUMBER.sub("", name), len(name), name)))
    return list(found)


def _called(nodes: Iterable[node_def_pb2.NodeDef]) -> Iterator[str]:
    """Yields the names of functions that nodes call, and of operations."""
    for node in nodes:
        yield node.op
        for key in sorted(node.attr):
            value = node.attr[key]
            yield from (called.name for called in (*([value.func] if value.HasField("func") else ()), *value.list.func))


def _change_texts(message: Message, change: Callable[[str], str]) -> None:
    """Changes every text in a message but the contents of tensors."""
    if isinstance(message, tensor_pb2.TensorProto):
        return
    if isinstance(message, attr_value_pb2.AttrValue) and message.s:
        message.s = _changed_bytes(message.s, change)
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            _change_map(value, change)
        elif field.message_type is not None:
            for each in value if field.is_repeated else [value]:
                _change_texts(each, change)
        elif field.type == field.TYPE_STRING:
            if field.is_repeated:
                value[:] = [change(text) for text in value]
            else:
                setattr(message, field.name, change(value))


def _changed_bytes(value: bytes, change: Callable[[str], str]) -> bytes:
    try:
        return change(value.decode("utf-8")).encode("utf-8")
    except UnicodeDecodeError:
        return value


def _change_map(entries, change: Callable[[str], str]) -> None:
    """Changes keys and values of a map field."""
    for key in list(entries):
        value, new = entries[key], change(key) if isinstance(key, str) else key
        if isinstance(value, Message):
            _change_texts(value, change)
            if new != key:
                entries[new].CopyFrom(value)
                del entries[key]
        elif isinstance(value, str):
            del entries[key]
            entries[new] = change(value)
