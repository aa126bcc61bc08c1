import tensorflow as tf
from tensorflow.core.framework import graph_pb2

from export.function_names import all_nodes, name_resources, number_functions, rename


def definition_of(function, *specs):
    return tf.function(function).get_concrete_function(*specs).graph.as_graph_def()


def looping(values):
    """A loop with a branch in it: functions that call functions."""

    def body(step, total):
        return step + 1, tf.cond(total > 5, lambda: total - values[0], lambda: total + values[1])

    return tf.while_loop(lambda step, _: step < 4, body, (0, tf.constant(0.0)))[1]


SPEC = tf.TensorSpec([2], tf.float32)


def test_functions_are_numbered_as_they_are_reached():
    definition = definition_of(looping, SPEC)
    assert len(definition.library.function) == 4
    number_functions(definition)
    names = [function.signature.name for function in definition.library.function]
    assert [name.rsplit("_", 1)[1] for name in names] == ["0", "1", "2", "3"]
    kinds = [name.rsplit("_", 1)[0] for name in names]
    assert sorted(kinds) == ["while_body", "while_cond", "while_cond_false", "while_cond_true"]
    # A function stands before those that only it calls.
    assert kinds.index("while_body") < min(kinds.index("while_cond_true"), kinds.index("while_cond_false"))


def test_graphs_made_at_different_times_become_equal():
    texts = []
    for _ in range(2):
        definition_of(lambda x: x + 1, SPEC)  # moves the process's numbers on
        definition = definition_of(looping, SPEC)
        number_functions(definition)
        for node in all_nodes(definition):
            node.attr.pop("_gradient_op_type", None)
        texts.append(definition.SerializeToString(deterministic=True))
    assert texts[0] == texts[1]


def test_a_renamed_graph_computes_the_same():
    definition = definition_of(looping, SPEC)
    number_functions(definition)
    rename(definition, {each.signature.name: f"{each.signature.name}_again" for each in definition.library.function})
    outputs = [node.name for node in definition.node if node.op == "Identity"][-1]
    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as session:
        tf.import_graph_def(definition, name="")
        feed = next(node.name for node in definition.node if node.op == "Placeholder")
        # Totals 0, 3, 6, then 6 - 2 = 4, then 4 + 3.
        assert session.run(f"{outputs}:0", {f"{feed}:0": [2.0, 3.0]}) == 7.0


def test_a_name_that_begins_another_is_told_apart():
    graph = graph_pb2.GraphDef()
    for name in ("f_1", "f_12", "f_1_2"):
        graph.library.function.add().signature.name = name
        node = graph.node.add(name=f"call_{name}", op=name)
        node.attr["text"].s = name.encode()
        node.attr["raw"].s = b"\xff" + name.encode()
        node.attr["f"].func.name = name
    graph.node.add(name="value", op="Const").attr["value"].tensor.string_val.append(b"f_12")
    rename(graph, {"f_1": "a_0", "f_12": "b_0", "f_1_2": "c_0"})
    assert [each.signature.name for each in graph.library.function] == ["a_0", "b_0", "c_0"]
    assert [(node.name, node.op, node.attr["text"].s, node.attr["f"].func.name) for node in graph.node[:3]] == [
        ("call_a_0", "a_0", b"a_0", "a_0"),
        ("call_b_0", "b_0", b"b_0", "b_0"),
        ("call_c_0", "c_0", b"c_0", "c_0"),
    ]
    assert graph.node[0].attr["raw"].s == b"\xfff_1"  # not a text
    assert graph.node[3].attr["value"].tensor.string_val[0] == b"f_12"  # a value is no name


def test_variables_among_arguments_are_named_by_their_places():
    texts = []
    for _ in range(2):
        variable = tf.Variable(2.0)

        def looped(x, variable=variable):
            return tf.while_loop(lambda step, _: step < 3, lambda step, y: (step + 1, y * variable), (0, x[0]))[1]

        definition = definition_of(looped, SPEC)
        name_resources(definition)
        for function in definition.library.function:
            for place, argument in enumerate(function.signature.input_arg):
                assert (argument.type == tf.resource.as_datatype_enum) == (argument.name == f"resource_{place}")
        texts.append(sorted(str(function.signature.input_arg) for function in definition.library.function))
    assert texts[0] == texts[1]
