"""Read small YAML files of plain values that people write."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from isplit.records.files import read_limited

LARGEST_YAML_BYTES = 2**20
"""The largest file of options or limits; a kilobyte is usual."""


_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|0b[01_]+)$")
_FRACTION = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF))$"
    r"|\.(?:nan|NaN|NAN)$"
)


def _resolvers() -> dict[Any, Any]:
    """Return which texts are values of which tags, by the first character: those of PyYAML, with other numbers."""
    numbers = {"tag:yaml.org,2002:int": _INTEGER, "tag:yaml.org,2002:float": _FRACTION}
    return {
        first: [(tag, numbers.get(tag, pattern)) for tag, pattern in resolvers]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class _Loader(yaml.SafeLoader):
    """Like `yaml.safe_load`, but without aliases, of which a few lines can stand for billions of values.

    Keys that are given twice are refused, because one of the values would be ignored. Numbers are those of YAML 1.2:
    YAML 1.1 takes 1:30 for 90 and 010 for 8.
    """

    yaml_implicit_resolvers = _resolvers()

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        pairs = node.value if isinstance(node, yaml.MappingNode) else ()  # PyYAML refuses other nodes itself
        counts: Counter[str] = Counter(key.value for key, _ in pairs if isinstance(key, yaml.ScalarNode))
        if twice := [key for key, count in counts.items() if count > 1]:
            msg = f"it gives {twice[0]} twice: keep one of the lines"
            raise ValueError(msg)
        return super().construct_mapping(node, deep=deep)

    def compose_node(self, parent: Any, index: Any) -> Any:
        loader: Any = super()
        if loader.check_event(yaml.AliasEvent):
            msg = "it holds an alias (*name): write the value out"
            raise ValueError(msg)
        return loader.compose_node(parent, index)


def read_yaml(path: Path, *, kind: str) -> Any:
    """Read a YAML file.

    Args:
        path: The file.
        kind: What it should be, with its article, for the message about its size: "a file of limits".

    Raises:
        OSError: the file cannot be read.
        FileTooLargeError: it is larger than `LARGEST_YAML_BYTES`.
        ValueError: it is not UTF-8 or not YAML, holds an alias, or gives a key twice; the message is one line.

    """
    text = read_limited(path, limit_bytes=LARGEST_YAML_BYTES, kind=kind).decode("utf-8-sig")
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())[:300]) from error
    except RecursionError:
        msg = "it is nested too deep"
        raise ValueError(msg) from None
    except (AttributeError, LookupError):
        # PyYAML takes it for granted that a text fits its tag.
        msg = "a value does not fit the tag in front of it, such as !!bool: leave the tag out"
        raise ValueError(msg) from None
