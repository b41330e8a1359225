"""Match the classes of the data to the outputs of the model, and say how they were matched."""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from isplit.design.inputs.batches import iter_batches
from isplit.design.inputs.data import Dataset, balanced_order
from isplit.design.inputs.models import LoadedModel
from isplit.design.running import evaluating
from isplit.errors import MissingExtraError, ModelError, needs_extra
from isplit.records.files import LARGEST_JSON_BYTES, read_limited

_TRIED_IMAGES = 200
_BATCH_SIZE = 16


@dataclass(frozen=True, kw_only=True)
class ClassMatch:
    """The model output of each of the data's classes.

    `rule` describes how they were matched, and `notices` say what the user has to check. `other_outputs` is a second
    order that the names of the classes also allow: numbers that sort differently as text ("10" before "2").
    """

    outputs: tuple[int, ...]
    rule: str
    notices: tuple[str, ...] = ()
    other_outputs: tuple[int, ...] | None = None


def match_data(loaded: LoadedModel, data: Dataset, *, class_map: Path | None = None) -> ClassMatch:
    """Return the model output of each class of the data.

    Where two orders are possible (see `match_classes`), the model is tried on up to 200 images, and the order in which
    it is right more often is taken. The notice shows both orders and how often each was right.

    Raises:
        ModelError: The classes cannot be matched; the message says what to pass.
        DataError: An image that the model is tried on is damaged.

    """
    match = match_classes(data.classes, loaded=loaded, titles=data.titles, class_map=class_map)
    if match.other_outputs is None:
        return match
    predicted, labels = _predicted_outputs(loaded, data)
    hits, other_hits = (
        int((np.asarray(outputs)[labels] == predicted).sum()) for outputs in (match.outputs, match.other_outputs)
    )
    by_number = hits >= other_hits
    chosen, passed_over = ("number", "name") if by_number else ("name", "number")
    notice = (
        f"{match.notices[0]}. They were matched by {chosen}: of {len(labels)} images, the model is right on "
        f"{max(hits, other_hits)} that way, and on {min(hits, other_hits)} by {passed_over}. "
        f"A class map decides it"
    )
    outputs = match.outputs if by_number else match.other_outputs
    return replace(match, outputs=outputs, rule=f"by {chosen}", notices=(notice, *match.notices[1:]))


def match_classes(
    classes: Sequence[str],
    *,
    loaded: LoadedModel,
    titles: Sequence[str] | None = None,
    class_map: Path | None = None,
) -> ClassMatch:
    """Return the model output of each of the data's classes, as far as names and numbers determine it.

    The first of these rules that applies decides:

    1. `class_map`, a JSON file: {class: output}, or a list of the classes in the order of the outputs. 2. The names of
    the model's outputs, if each class's name or title (or the first of its synonyms, "tabby, tabby cat") is among
    them. Case, underscores and the Unicode form of names do not matter. 3. Position, if there are as many classes as
    outputs. Classes that are numbers are put into the order of the numbers; where their order as text is another one,
    `other_outputs` holds it. 4. ImageNet's order, if the classes are ImageNet ids (n02085620) and there are 1000
    outputs (needs timm).

    Raises:
        ModelError: No rule applies; the class map lacks a class, repeats an output or names one that there is not; or
            the names that match contradict the order of the classes.

    """
    titles = titles or classes
    num_outputs = loaded.source.num_outputs
    if class_map is not None:
        return ClassMatch(
            outputs=_read_class_map(class_map, classes, titles, num_outputs=num_outputs),
            rule=f"by the class map {class_map}",
        )
    named = _outputs_by_name(classes, titles, loaded.class_names or ())
    known = [output for output in named if output is not None]
    if len(known) == len(classes) and len(set(known)) == len(known):
        return ClassMatch(outputs=tuple(known), rule="by the names of the model's outputs")
    if len(classes) == num_outputs:
        return _by_position(classes, titles, named, loaded.class_names)
    note = ""
    if num_outputs == 1000 and all(re.fullmatch(r"n\d{8}", name) for name in classes):
        try:
            return ClassMatch(outputs=_by_imagenet_id(classes), rule="by ImageNet's ids")
        except MissingExtraError as error:
            note = f" (the classes are ImageNet ids: {error} to match them by that)"
        except KeyError as error:
            note = f" ({error.args[0]} is none of the 1000 ImageNet ids)"
    if known and loaded.class_names:
        unknown = [title for title, output in zip(titles, named, strict=True) if output is None]
        note = f" ({_listed(unknown)} is none of the model's outputs)" if unknown else note
    msg = (
        f"the data has {len(classes)} classes, the model {num_outputs} outputs{note}: pass "
        f"`num_classes={len(classes)}` with weights fitted to them, or `class_map=FILE`"
    )
    raise ModelError(msg)


# --- by name and by position ---


def _by_position(
    classes: Sequence[str], titles: Sequence[str], named: Sequence[int | None], class_names: Sequence[str] | None
) -> ClassMatch:
    """Match the k-th class to the k-th output, after checking that nothing that is known contradicts this."""
    positions = tuple(range(len(classes)))
    wrong = [k for k in positions if named[k] not in (None, k)]
    if wrong and class_names is not None:
        msg = (
            f"the classes and the model's outputs have names that only partly match, and in another order: class "
            f"{wrong[0]} is {titles[wrong[0]]!r}, which is the model's output {named[wrong[0]]}. The classes are "
            f"{_listed(titles)}; the outputs are {_listed(class_names)}: pass `class_map=FILE`, a JSON file of "
            f"{{class: output}}"
        )
        raise ModelError(msg)
    notices: list[str] = []
    if class_names is not None:
        k = next(k for k in positions if named[k] is None)
        notices.append(
            f"the classes were matched to the model's outputs by position, not by name: output {k} is called "
            f"{class_names[k]!r}, and class {k} {titles[k]!r}. If that is wrong, pass a class map"
        )
    by_number = sorted(positions, key=lambda k: _natural_key(classes[k]))
    outputs = tuple(by_number.index(k) for k in positions)
    all_numbers = all(_is_number(name) for name in classes)
    if outputs != positions and not wrong and (all_numbers or list(classes) == sorted(classes)):
        notices.insert(
            0,
            f"the classes are in another order by number ({_listed([classes[k] for k in by_number])}) than by name "
            f"({_listed(classes)})",
        )
        return ClassMatch(outputs=outputs, rule="by number", notices=tuple(notices), other_outputs=positions)
    if all_numbers and any(int(name) != k for k, name in enumerate(classes)):
        notices.append(
            f"the classes {_listed(classes)} were matched to the model's outputs 0 to {len(classes) - 1} by position. "
            "If that is wrong, pass a class map"
        )
    return ClassMatch(outputs=positions, rule="by position", notices=tuple(notices))


def _outputs_by_name(classes: Sequence[str], titles: Sequence[str], names: Sequence[str]) -> list[int | None]:
    """Return the output whose name each class has, or None."""
    keys = [_name_key(name) for name in names]
    counts = Counter(keys)
    # ImageNet has two cranes and two maillots; a name that is not unique cannot decide.
    outputs = {key: index for index, key in enumerate(keys) if counts[key] == 1}
    matches: list[int | None] = []
    for name, title in zip(classes, titles, strict=True):
        candidates = (name, title, title.split(",")[0])
        matches.append(next((outputs[key] for key in map(_name_key, candidates) if key in outputs), None))
    return matches


def _name_key(name: str) -> str:
    """Return the form of a name that is compared, without case, Unicode form, underscores and spaces."""
    return re.sub(r"[\s_]+", " ", unicodedata.normalize("NFKC", name).casefold()).strip()


def _natural_key(name: str) -> tuple[list[tuple[int, int | str]], str]:
    """Return a key that sorts the numbers in names by their value: "class 2" before "class 10"."""
    pieces = re.split(r"([0-9]+)", name)
    return [(0, int(piece)) if k % 2 else (1, piece) for k, piece in enumerate(pieces) if piece], name


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()


def _listed(names: Sequence[str], *, most: int = 5) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _by_imagenet_id(classes: Sequence[str]) -> tuple[int, ...]:
    """Return the outputs of ImageNet ids; KeyError for an id that is not among the thousand."""
    with needs_extra("timm"):
        from timm.data.imagenet_info import ImageNetInfo
    order = {name: index for index, name in enumerate(ImageNetInfo().label_names())}
    return tuple(order[name] for name in classes)


# --- by a file ---


def _read_class_map(path: Path, classes: Sequence[str], titles: Sequence[str], *, num_outputs: int) -> tuple[int, ...]:
    try:
        encoded = read_limited(path, limit_bytes=LARGEST_JSON_BYTES, kind="a class map")
        content = json.loads(encoded, object_pairs_hook=_without_repeats)
        if isinstance(content, list) and content and all(isinstance(name, str) for name in content):
            content = _without_repeats([(name, output) for output, name in enumerate(content)])
    except (OSError, ValueError, RecursionError) as error:
        msg = f"the class map {path} cannot be read: {error}; it is a JSON file {{class: output}}"
        raise ModelError(msg) from error
    if not isinstance(content, dict):
        msg = f"the class map {path} is a JSON {type(content).__name__}, not {{class: output}}"
        raise ModelError(msg)
    by_key = {unicodedata.normalize("NFC", name): output for name, output in content.items()}
    outputs: list[int] = []
    for name, title in zip(classes, titles, strict=True):
        key = name if name in by_key else title
        output = by_key.get(key)
        if type(output) is not int or not 0 <= output < num_outputs or output in outputs:
            why = "has no output" if key not in by_key else f"has the output {output!r}"
            msg = f"the class map {path}: {name!r} {why}: give each class its own of 0 to {num_outputs - 1}"
            raise ModelError(msg)
        outputs.append(output)
    return tuple(outputs)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a dictionary; ValueError for a repeated key, of which JSON readers silently keep the last."""
    counts = Counter(key for key, _ in pairs)
    twice = next((key for key, count in counts.items() if count > 1), None)
    if twice is not None:
        msg = f"{twice!r} stands in it twice"
        raise ValueError(msg)
    return dict(pairs)


# --- by trying ---


def _predicted_outputs(loaded: LoadedModel, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the outputs that the model chooses for some images, balanced over the classes, and their labels."""
    images = balanced_order(data.labels, np.arange(len(data)), seed=0)[:_TRIED_IMAGES]
    predicted: list[torch.Tensor] = []
    batches = closing(iter_batches(data, images, loaded.preprocessing, batch_size=_BATCH_SIZE))
    with evaluating(loaded.module), torch.no_grad(), batches as coming:
        for batch in coming:
            predicted.append(loaded.logits(batch.images).argmax(1))
    return torch.cat(predicted).numpy(), data.labels[images]
