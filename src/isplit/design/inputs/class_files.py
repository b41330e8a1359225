"""Read classes.json, the file beside the class folders that names the classes, orders them, or groups them."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from isplit.errors import DataError
from isplit.text import display_name

FILE_NAME = "classes.json"

FORMS = (
    '{"names": {folder: title}, "groups": {name: [folders]}}, {folder: title}, {folder: number}, a list of the folders '
    "in the order of their numbers, or a list of titles in the order of the folders"
)


@dataclass(frozen=True, kw_only=True)
class ClassFile:
    """The content of a classes.json: the classes in their order, titles by class, and groups of classes."""

    order: tuple[str, ...]
    titles: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notices: tuple[str, ...] = ()


def parse_class_file(content: bytes, classes: Sequence[str], *, name: str) -> ClassFile:
    """Read a classes.json in any of its forms (`FORMS`); `classes` are the names of the folders, sorted.

    Raises:
        DataError: The file, which the message calls `name`, has another form, names a class that there is not, or
            numbers the classes otherwise than 0, 1, 2 and so on.

    """
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        msg = f"{name} is not of the form {FORMS}: {error}"
        raise DataError(msg) from error
    if isinstance(value, list) and value and all(isinstance(word, str) for word in value):
        return _from_list([display_name(word) for word in value], classes, name=name)
    if not isinstance(value, dict):
        msg = f"{name} is not of the form {FORMS}: it is a {type(value).__name__}"
        raise DataError(msg)
    if "names" in value or "groups" in value:
        if not all(isinstance(value.get(key, {}), dict) for key in ("names", "groups")):
            msg = f'{name} is not of the form {FORMS}: "names" and "groups" are objects'
            raise DataError(msg)
        titles = {display_name(folder): str(title) for folder, title in value.get("names", {}).items()}
        return ClassFile(
            order=tuple(classes), titles=titles, groups=_groups(value.get("groups", {}), classes, name=name)
        )
    return _from_flat({display_name(folder): word for folder, word in value.items()}, classes, name=name)


def _from_list(words: Sequence[str], classes: Sequence[str], *, name: str) -> ClassFile:
    twice = [word for word, count in Counter(words).items() if count > 1]
    if len(words) != len(classes) or (twice and set(words) <= set(classes)):
        what = f"names {twice[0]!r} twice" if twice else f"has {len(words)} entries"
        msg = f"{name} {what}, and there are {len(classes)} class folders: list each once, or give titles by folder"
        raise DataError(msg)
    if set(words) == set(classes):
        return ClassFile(order=tuple(words))
    if known := set(words) & set(classes):
        msg = (
            f"{name} lists {', '.join(sorted(known)[:3])}, which are class folders, and other names, which are not: "
            'list all folders, or give titles as {"names": {folder: title}}'
        )
        raise DataError(msg)
    if all(folder.isascii() and folder.isdigit() for folder in classes):
        numbers = sorted(classes, key=int)
        if [int(folder) for folder in numbers] == list(range(len(numbers))):
            return ClassFile(order=tuple(classes), titles=dict(zip(numbers, words, strict=True)))
    notice = (
        f"{name} lists titles: they were given to the folders in the order of their names, {classes[0]!r} being "
        f"{words[0]!r} and {classes[-1]!r} {words[-1]!r}"
    )
    return ClassFile(order=tuple(classes), titles=dict(zip(classes, words, strict=True)), notices=(notice,))


def _from_flat(value: Mapping[str, Any], classes: Sequence[str], *, name: str) -> ClassFile:
    known = [folder for folder in classes if folder in value]
    if known and all(isinstance(value[folder], str) for folder in known):
        return ClassFile(order=tuple(classes), titles={folder: value[folder] for folder in known})
    if known and all(type(value[folder]) is int for folder in known):
        order = sorted(known, key=lambda folder: value[folder])
        if [value[folder] for folder in order] != list(range(len(classes))):
            msg = f"{name} must give each of the {len(classes)} class folders its own number, from 0 on"
            raise DataError(msg)
        return ClassFile(order=tuple(order))
    msg = f"{name} is not of the form {FORMS}: none of its keys is a class folder, or its values are of several kinds"
    raise DataError(msg)


def _groups(value: Mapping[str, Any], classes: Sequence[str], *, name: str) -> dict[str, tuple[str, ...]]:
    groups: dict[str, tuple[str, ...]] = {}
    for group, members in value.items():
        if not isinstance(members, list):
            msg = f"{name}: group {group!r} is a {type(members).__name__}: give a list of class folders"
            raise DataError(msg)
        groups[group] = tuple(display_name(str(member)) for member in members)
        unknown = sorted(set(groups[group]) - set(classes))
        if unknown or not members:
            what = f"has the unknown class {unknown[0]!r}" if unknown else "is empty"
            msg = f"{name}: group {group!r} {what}: name class folders"
            raise DataError(msg)
    return groups
