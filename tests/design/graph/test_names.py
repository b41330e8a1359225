"""Names of nodes: the innermost module that is called once and returns the value."""

from torch import fx

from isplit.design.graph.names import ModuleNames


def test_the_innermost_module_that_is_called_once():
    """`relu` is called twice, so its second value is named by the block around it, and its first has no name."""
    graph = fx.Graph()
    first, second, alone = (graph.placeholder(name) for name in ("first", "second", "alone"))
    names = ModuleNames()
    names.note_return(first, "relu")
    names.note_return(second, "relu")
    names.note_return(second, "block")
    names.note_return(alone, "block.norm")
    names.note_return(alone, "outer")
    assert {second: "block", alone: "block.norm"} == names.returned_by()
