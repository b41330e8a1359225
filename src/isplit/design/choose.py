"""Which cuts a command is about."""

from collections.abc import Iterable

from isplit.design.study import OpenStudy
from isplit.errors import InputError
from isplit.records import CandidatesRecord


def cut_names(study: OpenStudy, words: Iterable[str], *, group: str | None = None) -> tuple[str, ...]:
    """Return cuts in the order of computation: "all" are those of the curve, "candidates" those that analyze ranked.

    Args:
        study: From `open_study`.
        words: These two, or names; empty ones are left out.
        group: Whose candidates; None for those of the study's own classes.

    Raises:
        StudyError: an unknown name.
        InputError: there are no candidates that can be split with one crossing tensor.

    """
    names: list[str] = []
    for word in (word.strip() for word in words):
        if word == "all":
            names.extend(cut.name for cut in study.cuts())
        elif word == "candidates":
            names.extend(_candidates(study, group))
        elif word:
            names.append(word)
    if not names:
        return ()
    return tuple(sorted((cut.name for cut in study.cuts(tuple(names))), key=lambda name: _depth(study, name)))


def _depth(study: OpenStudy, name: str) -> int:
    return study.graph_record.cut(name).depth


def _candidates(study: OpenStudy, group: str | None) -> list[str]:
    ranking = CandidatesRecord.load(study.directory)
    of_subset = {subset.name: subset.candidates for subset in ranking.subsets}
    known = {cut.name for cut in study.graph_record.cuts if cut.channel_axis is not None}
    found = [one.cut for one in of_subset.get(group or "", ranking.candidates) if one.cut in known]
    if not found:
        msg = f"{study.directory} has no candidates with one crossing tensor: name cuts, or choose --cuts all"
        raise InputError(msg)
    return found
