"""What nodes are called in addresses."""

from __future__ import annotations

from onnx import helper

from onnxscope_server.catalog.labels import labels


def named(*pairs: tuple[str, str]) -> list[str]:
    """Labels of nodes of these types and names."""
    return labels([helper.make_node(op_type, [], ["y"], name=name) for op_type, name in pairs])


def test_a_name_of_its_own_is_kept():
    """A node is called by its name, whatever characters are in it."""
    assert named(("Relu", "a/b::c"), ("Relu", "Relu_7")) == ["a/b::c", "Relu_7"]


def test_nodes_without_a_name_are_counted_by_type():
    """The index counts all nodes of the type, named ones too."""
    assert named(("Relu", ""), ("Add", ""), ("Relu", "r"), ("Relu", "")) == ["Relu_0", "Add_0", "r", "Relu_2"]


def test_a_name_that_two_nodes_have_is_none():
    """Nodes that share a name are counted."""
    assert named(("Relu", "n"), ("Add", "n")) == ["Relu_0", "Add_0"]


def test_a_clash_takes_the_next_free_number():
    """A label is never another node's name, nor given twice."""
    assert named(("Relu", ""), ("Add", "Relu_0"), ("Relu", "")) == ["Relu_1", "Relu_0", "Relu_2"]
