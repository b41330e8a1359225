"""The qualified module names of a graph's nodes, noted while it is traced."""

from collections import Counter
from dataclasses import dataclass, field

from torch import fx


@dataclass
class ModuleNames:
    """What is learnt about modules while a graph is traced.

    `calls` counts the calls of each module, `returns` lists per node the modules that return it, from the innermost
    outwards, and `enclosing` names per node the innermost module (not a leaf) in whose forward it is computed, "" for
    the model itself.
    """

    calls: Counter[str] = field(default_factory=Counter)
    returns: dict[fx.Node, list[str]] = field(default_factory=dict)
    enclosing: dict[fx.Node, str] = field(default_factory=dict)

    def note_return(self, node: fx.Node, path: str) -> None:
        """Note a call of a module and the node that it returned."""
        self.calls[path] += 1
        self.returns.setdefault(node, []).append(path)

    def returned_by(self) -> dict[fx.Node, str]:
        """Name for each node the innermost module that is called exactly once and returns the node's value."""
        named: dict[fx.Node, str] = {}
        for node, paths in self.returns.items():
            once = [path for path in paths if self.calls[path] == 1]
            if once:
                named[node] = once[0]
        return named
