"""Sets of classes that an application has to tell apart: parsed from the user's words, and their part of the logits."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from isplit.design.inputs.data import Dataset
from isplit.errors import DataError, StudyError
from isplit.records import ClassGroup, Target
from isplit.records.files import LARGEST_JSON_BYTES, FileTooLargeError, read_limited
from isplit.text import display_name

ALL = "all classes"


def parse_groups(specs: Sequence[str], dataset: Dataset) -> tuple[ClassGroup, ...]:
    """Read class subsets.

    Args:
        specs: Each is "cat,dog" (names or titles of classes; one that holds a comma, "+" or "=" stands in double
            quotes), "normal,pneumonia=bacteria+virus" (classes that count as one), the name of a group that the data's
            classes.json defines, or a JSON file of {name: [classes]}.
        dataset: The data that has the classes.

    Returns:
        The study's own group first: all classes, or the subset if there is just one. With several subsets, all
        classes and then each.

    Raises:
        DataError: a class that the data does not have, one in two places, fewer than two in a group, a bad file.

    """
    groups: list[ClassGroup] = []
    for spec in specs:
        if spec in dataset.groups:
            groups.append(_group(spec, dataset.groups[spec], dataset))
        elif spec.endswith(".json"):
            groups.extend(_group(name, members, dataset) for name, members in _read_json(Path(spec)).items())
        else:
            groups.append(_group(spec, _split(spec, ","), dataset))
    if len(groups) == 1:
        return (groups[0],)
    everything = ClassGroup(name=ALL, classes=dataset.titles, members=tuple((name,) for name in dataset.classes))
    return (everything, *groups)


def _read_json(path: Path) -> dict[str, list[str]]:
    try:
        content: Any = json.loads(read_limited(path, limit_bytes=LARGEST_JSON_BYTES, kind="a file of class groups"))
    except FileTooLargeError as error:
        raise DataError(str(error)) from error
    except OSError as error:
        msg = f"cannot read the class groups in {path}: {error.strerror or error}"
        raise DataError(msg) from error
    except (ValueError, RecursionError) as error:
        msg = f"{path} is not JSON: {error}"
        raise DataError(msg) from error
    groups = content.get("groups", content) if isinstance(content, dict) else None
    if not isinstance(groups, dict) or not groups or not all(isinstance(names, list) for names in groups.values()):
        msg = f'{path} must hold a JSON object of named lists of classes, for example {{"pets": ["cat", "dog"]}}'
        raise DataError(msg)
    return {str(name): [str(member) for member in members] for name, members in groups.items()}


def _group(name: str, words: Sequence[str], dataset: Dataset) -> ClassGroup:
    classes: list[str] = []
    members: list[tuple[str, ...]] = []
    for word in words:
        exact = word in dataset.classes or word in dataset.titles  # names from a JSON file may hold "=" and "+"
        title, *merged = [word] if exact else _split(word.strip(), "=", most=1)
        parts = [word] if exact else _split(merged[0] if merged else title, "+")
        numbers = tuple(_class_number(_unquoted(part), dataset) for part in parts)
        classes.append(_unquoted(title) if merged else "+".join(dataset.titles[number] for number in numbers))
        members.append(tuple(dataset.classes[number] for number in numbers))
    every = [member for group in members for member in group]
    twice = {member for member in every if every.count(member) > 1}
    if twice or len(set(classes)) < len(classes):
        msg = f"class group {name!r} names {', '.join(sorted(twice)) or 'a class'} twice"
        raise DataError(msg)
    if len(classes) < 2:
        msg = f"class group {name!r} has one class only ({', '.join(classes)}): name at least two, separated by commas"
        raise DataError(msg)
    return ClassGroup(name=name, classes=tuple(classes), members=tuple(members))


def _split(text: str, separator: str, *, most: int = -1) -> list[str]:
    """Split text at a separator, at most so many times, but not within double quotes, which stay."""
    pieces = [""]
    quoted = False
    for character in text:
        quoted ^= character == '"'
        if character == separator and not quoted and len(pieces) != most + 1:
            pieces.append("")
        else:
            pieces[-1] += character
    return pieces


def _unquoted(word: str) -> str:
    """Return a word without the double quotes around it; two within stand for one."""
    word = word.strip()
    if len(word) >= 2 and word[0] == word[-1] == '"':
        word = word[1:-1].replace('""', '"')
    return display_name(word)


def _class_number(word: str, dataset: Dataset) -> int:
    for names in (dataset.classes, dataset.titles):
        if word in names:
            return names.index(word)
    known = [*dict.fromkeys([*dataset.titles, *dataset.classes])]
    close = get_close_matches(word, known, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"it has {', '.join(known[:20])}"
    if any(separator in name for name in known for separator in ",=+"):
        hint += """ (names that hold a comma, = or + go into double quotes: '"a, b",c')"""
    msg = f"the data has no class {word!r}; {hint}"
    raise DataError(msg)


@dataclass(frozen=True)
class ClassSubset:
    """Reduce the model's logits to a set of classes; merged classes are joined by logsumexp.

    Args:
        group: The classes.
        class_names: The data's classes, in the order of its labels.
        class_outputs: The model's output of each.

    """

    group: ClassGroup
    class_names: Sequence[str]
    class_outputs: Sequence[int]

    @cached_property
    def outputs(self) -> list[list[int]]:
        """The model outputs of each class of the group.

        Raises:
            StudyError: a record of a study gives the group a class that the data does not have, or none.

        """
        output: Mapping[str, int] = dict(zip(self.class_names, self.class_outputs, strict=True))
        for members in self.group.members:
            if not members or not output.keys() >= set(members):
                msg = (
                    f"study.json is damaged: the group {self.group.name!r} has the class {'+'.join(members)!r}, and "
                    "the data does not; run `isplit analyze` again"
                )
                raise StudyError(msg)
        return [[output[member] for member in members] for members in self.group.members]

    @cached_property
    def merges(self) -> bool:
        """Whether any class of the group joins several of the data's."""
        return any(len(outputs) > 1 for outputs in self.outputs)

    @cached_property
    def label_map(self) -> NDArray[np.int64]:
        """The group's class number of each class of the data; -1 for classes outside."""
        numbers = {member: number for number, members in enumerate(self.group.members) for member in members}
        return np.array([numbers.get(name, -1) for name in self.class_names], np.int64)

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        """Reduce logits N×outputs to N×classes."""
        if not self.merges:
            return logits[:, [outputs[0] for outputs in self.outputs]]
        return torch.stack([logits[:, outputs].logsumexp(1) for outputs in self.outputs], dim=1)

    def decision(self, logits: torch.Tensor, labels: torch.Tensor, target: Target) -> torch.Tensor:
        """Return the sum over images of `decisions`: a scalar to differentiate."""
        return self.decisions(logits, labels, target).sum()

    def decisions(self, logits: torch.Tensor, labels: torch.Tensor, target: Target) -> torch.Tensor:
        """Return the logit (N) of each image that the importance is about.

        Args:
            logits: N×outputs.
            labels: N class numbers of the group.
            target: "correct": of the image's own class; "predicted": of the highest within the group.

        """
        of_classes = self(logits)
        if target == "predicted":
            return of_classes.max(1).values
        return of_classes.gather(1, labels.to(of_classes.device).unsqueeze(1)).squeeze(1)
