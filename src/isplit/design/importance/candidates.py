"""Rank the cuts worth trying, from a curve and the sizes of the cuts. The functions map records to records."""

from collections.abc import Sequence
from itertools import groupby
from math import log10

from isplit.errors import NonFiniteError
from isplit.records import Candidate, CurvePoint, Cut, GraphRecord, Ranking, Rule


def rank_cuts(graph: GraphRecord, name: str, classes: Sequence[str], points: Sequence[CurvePoint]) -> Ranking:
    """Rank the cuts worth trying for a set of classes.

    The interior local maxima of the curve come first, the highest first (I-SPLIT: split right after a maximum; the
    highest is the first choice). Cuts that only the size rules find follow, by importance. These are natural
    bottlenecks (fewer bytes than the input and than every earlier cut: our reading of CDE, SECON 2021) and local
    minima of the size curve. For a curve without an interior maximum, natural bottlenecks come first, followed by the
    cuts that lie highest above the straight line between the ends of the log curve.

    Args:
        graph: The cuts and their sizes.
        name: What the set of classes is called.
        classes: Its classes.
        points: The curve, in the order of computation.

    Raises:
        NonFiniteError: a point of the curve is NaN or infinite.

    """
    broken = [f"{point.cut} ({point.non_finite} images)" for point in points if point.cui is None]
    if broken:
        msg = f"importance is NaN or infinite at {', '.join(broken)}; try `precision=fp32`, check the weights"
        raise NonFiniteError(msg)
    cuts = [cut for cut in graph.cuts if cut.kind != "other" and len(cut.crossing) == 1]
    values = [point.cui or 0.0 for point in points]
    peaks = interior_maxima(values)
    rules: dict[str, list[Rule]] = {points[first].cut: ["importance-maximum"] for first, _ in peaks}
    settled = {points[first].cut: _is_settled(points, values, first, last) for first, last in peaks}
    naturals = natural_bottlenecks(cuts, graph.input_bytes)
    for names, rule in ((naturals, "natural-bottleneck"), (size_minima(cuts), "size-minimum")):
        for cut in names:
            rules.setdefault(cut, []).append(rule)  # type: ignore[arg-type]
    heights: dict[str, float] = {point.cut: value for point, value in zip(points, values, strict=True)}
    note = None
    if not peaks:
        above = above_trend(values)
        for index in above:
            rules.setdefault(points[index].cut, []).append("above-trend")
        heights = {points[index].cut: -rank for rank, index in enumerate(above)}
        note = _why_no_maximum(points) + (
            " Ranked by natural bottlenecks, then by height above the line between the ends of the log curve."
            if rules
            else " No size rule finds a cut either: compare running all on the device with sending the image."
        )
    groups: dict[Rule, int] = {"importance-maximum": 0, "natural-bottleneck": 1, "above-trend": 2, "size-minimum": 3}
    order = sorted(rules, key=lambda cut: (min(groups[rule] for rule in rules[cut]), -heights.get(cut, float("-inf"))))
    by_point = {point.cut: point for point in points}
    candidates = tuple(
        _candidate(rank, graph, graph.cut(cut), rules[cut], by_point.get(cut), settled.get(cut))
        for rank, cut in enumerate(order, start=1)
    )
    return Ranking(name=name, classes=tuple(classes), candidates=candidates, note=note)


def interior_maxima(values: Sequence[float]) -> list[tuple[int, int]]:
    """Return the (first, last) positions of local maxima; a plateau counts once, and not where it touches an end."""
    runs: list[tuple[int, int]] = []
    for _, group in groupby(range(len(values)), key=lambda index: values[index]):
        members = list(group)
        runs.append((members[0], members[-1]))
    return [
        run
        for before, run, after in zip(runs, runs[1:], runs[2:], strict=False)
        if values[before[0]] < values[run[0]] > values[after[0]]
    ]


def natural_bottlenecks(cuts: Sequence[Cut], input_bytes: int) -> list[str]:
    """Return the cuts with fewer bytes than the input and than every earlier cut."""
    minima: list[str] = []
    smallest = input_bytes
    for cut in cuts:
        if cut.bytes < smallest:
            minima.append(cut.name)
            smallest = cut.bytes
    return minima


def size_minima(cuts: Sequence[Cut]) -> list[str]:
    """Return the interior local minima of the size curve, the first cut of each plateau."""
    return [cuts[first].name for first, _ in interior_maxima([-cut.bytes for cut in cuts])]


def above_trend(values: Sequence[float]) -> list[int]:
    """Return the interior positions above the line that joins the ends of the log curve, the farthest above first.

    Zeros have no logarithm and are skipped; with fewer than three other values there is no interior.
    """
    positive = [index for index, value in enumerate(values) if value > 0]
    if len(positive) < 3:
        return []
    first, last = positive[0], positive[-1]
    start, slope = log10(values[first]), (log10(values[last]) - log10(values[first])) / (last - first)
    heights = {index: log10(values[index]) - start - slope * (index - first) for index in positive[1:-1]}
    return sorted((index for index in heights if heights[index] > 1e-12), key=lambda index: -heights[index])


def disagreement(rankings: Sequence[Ranking]) -> str | None:
    """Describe where the subsets' first choices differ; None with fewer than two rankings."""
    if len(rankings) < 2:
        return None
    firsts = {ranking.name: ranking.candidates[0].cut if ranking.candidates else "none" for ranking in rankings}
    if len(set(firsts.values())) == 1:
        others = {frozenset(candidate.cut for candidate in ranking.candidates) for ranking in rankings}
        tail = "" if len(others) == 1 else " They differ further down."
        return f"Every set of classes has the same first choice, {next(iter(firsts.values()))}.{tail}"
    choices: dict[str, list[str]] = {}
    for name, cut in firsts.items():
        choices.setdefault(cut, []).append(name)
    parts = "; ".join(f"{cut} for {', '.join(names)}" for cut, names in choices.items())
    unsettled = any(ranking.candidates and ranking.candidates[0].settled is False for ranking in rankings)
    caution = " At least one of these is not settled: take more images before relying on it." if unsettled else ""
    return f"The first choice depends on the classes: {parts}.{caution}"


def _is_settled(points: Sequence[CurvePoint], values: Sequence[float], first: int, last: int) -> bool:
    """Return whether the maximum exceeds both neighbours by more than two standard errors of the difference."""
    steps = ((first - 1, first, first), (last, last + 1, last + 1))
    return all(_exceeds(values[left] - values[right], points[step].step_stderr) for left, right, step in steps)


def _exceeds(difference: float, stderr: float | None) -> bool:
    return stderr is not None and abs(difference) > 2 * stderr


def _why_no_maximum(points: Sequence[CurvePoint]) -> str:
    if len(points) < 3:
        return f"The curve has {len(points)} points, too few for a maximum between its ends."
    return "The curve has no local maximum between its ends."


def _candidate(
    rank: int, graph: GraphRecord, cut: Cut, rules: Sequence[Rule], point: CurvePoint | None, settled: bool | None
) -> Candidate:
    value = point.cui if point is not None else None
    return Candidate(
        rank=rank,
        cut=cut.name,
        found_by=tuple(rules),
        cui=value,
        log10_cui=log10(value) if value else None,
        settled=settled,
        bytes=cut.bytes,
        head_mac_share=cut.head_macs / graph.macs if graph.macs else 0.0,
    )
