"""Draw small changes of the code at random, for `mutants.py`."""

import ast
import contextlib
import hashlib
import itertools
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator

ROOT = Path(__file__).parent.parent
TABLE = tomllib.loads((Path(__file__).parent / "mutants.toml").read_text())


@dataclass(frozen=True)
class Place:
    """A place at which an operator changes something; `key` names it whatever else changes in the module."""

    module: str
    operator: str
    occurrence: int
    row: int
    key: str


@dataclass(frozen=True)
class Mutant(Place):
    """The changed code of a module, and the line that it changes."""

    code: str
    before: str
    after: str

    @classmethod
    def at(cls, place: Place) -> "Mutant":
        """Make the change."""
        source = (ROOT / place.module).read_text()
        code = mutate_code(source, get_operator(f"core/{place.operator}")(), place.occurrence)
        assert code is not None, "the operator no longer finds its place"
        lines = itertools.zip_longest(source.split("\n"), code.split("\n"), fillvalue="")
        before, after = next((old.strip(), new.strip()) for old, new in lines if old != new)
        return cls(**asdict(place), code=code, before=before, after=after)

    @property
    def name(self) -> str:
        """The file below src/isplit, and the line."""
        return f"{self.module.removeprefix('src/isplit/')}:{self.row}"


def excluded(source: str) -> Iterator[Any]:
    """Yield the nodes of a module in which nothing is changed.

    These are annotations of types and blocks under TYPE_CHECKING, which nothing runs; f-strings, calls of a logger and
    the methods __repr__ and _repr_html_, which are wording; assert statements and `strict=` of zip, which guard against
    our own bugs; arguments of decorators, such as frozen=True, to which pyright holds everyone; and arguments called
    `buckets`, which say how finely a metric is drawn.
    """
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.arg(annotation=ast.expr() as annotation) | ast.AnnAssign(annotation=annotation):
                yield annotation
            case ast.JoinedStr() | ast.Assert() | ast.If(test=ast.Name(id="TYPE_CHECKING")):
                yield node
            case ast.FunctionDef(name="__repr__" | "_repr_html_"):
                yield node
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield from node.decorator_list
                yield from filter(None, [getattr(node, "returns", None)])
            case ast.Call(func=ast.Attribute(value=ast.Name(id="log" | "logger"))):
                yield node
            case ast.keyword(arg="strict" | "buckets"):
                yield node


def places_of(path: Path) -> Iterator[Place]:
    """Yield every place of a module at which something may be changed."""
    source = path.read_text()
    lines = source.split("\n")
    module = str(path.relative_to(ROOT))
    spans = [((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)) for node in excluded(source)]
    nodes = list(ast_nodes(get_ast(source)))
    repeats: Counter[str] = Counter()
    for name in TABLE["operators"]:
        operator = get_operator(f"core/{name}")()
        sites = ((node, start) for node in nodes for start, _end in operator.mutation_positions(node))
        for occurrence, (node, (row, column)) in enumerate(sites):
            if node.parent is not None and node.parent.type in ("parameters", "param"):
                continue  # the * of keyword-only and of further arguments, which cosmic-ray takes for a product
            line = lines[row - 1]
            text = f"{module}\n{name}\n{line.strip()}\n{line[column:]}"
            repeats[text] += 1
            position = (row, len(line[:column].encode()))  # ast counts bytes
            if not any(start <= position < end for start, end in spans):
                yield Place(module, name, occurrence, row, digest(f"{text}\n{repeats[text]}"))


def digest(text: str) -> str:
    """Return a short hash of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def drawn(*, count: int, seed: int) -> list[Mutant]:
    """Draw mutants of the rooms that mutants.toml names, each line at most once; in the order of their modules."""
    paths = [path for room in TABLE["rooms"] for path in (ROOT / room).rglob("*.py")]
    places = [place for path in paths for place in places_of(path)]
    mutants: dict[tuple[str, int], Mutant] = {}
    for place in sorted(places, key=lambda place: digest(f"{seed} {place.key}")):
        if len(mutants) < count and (place.module, place.row) not in mutants:
            mutant = Mutant.at(place)
            with contextlib.suppress(SyntaxError):
                compile(mutant.code, place.module, "exec")
                mutants[place.module, place.row] = mutant
    return sorted(mutants.values(), key=lambda mutant: (mutant.module, mutant.row))
