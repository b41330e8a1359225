"""Put the answer into words: what to do, what else there is, where the answer changes, and what would settle it."""

from collections.abc import Sequence
from dataclasses import dataclass

from isplit.plan.limit_words import broken_figures, broken_limits, excluded
from isplit.plan.links import ASSUMED_ROUND_TRIP
from isplit.plan.opponent import ASK_FOR_OPPONENT
from isplit.plan.units import rate_text, size_text
from isplit.records import (
    ExcludedBy,
    LinkRecord,
    Objective,
    PlannedAccuracy,
    PlannedMachine,
    PlannedPlacement,
    Recommendation,
    SwitchingPoint,
    TrainingAdvice,
)

_KIND_VERBS = {
    "local": "run it on the device",
    "remote": "send the image",
    "split": "split",
    "middle": "split and take the last layers back",
    "tiers": "spread it over the machines",
    "segmented": "run it on the device in segments",
}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Hold the placements that a plan chooses.

    `chosen` is the best placement that keeps the limits. It is None where no placement keeps them, and `closest` is
    then the placement that comes closest. `alternatives` are the best placements of each other kind that are as
    accurate as asked for. `objective` is the quantity by which placements were compared.
    """

    chosen: PlannedPlacement | None
    closest: PlannedPlacement
    alternatives: Sequence[PlannedPlacement] = ()
    objective: Objective = "latency"


def recommend(
    placements: Sequence[PlannedPlacement],
    *,
    choice: Choice,
    machines: Sequence[PlannedMachine],
    links: Sequence[LinkRecord],
    switching: Sequence[SwitchingPoint],
    excluded_by: Sequence[ExcludedBy],
    default_loss: bool,
    train: TrainingAdvice | None,
) -> Recommendation:
    """Put the answer into words.

    Args:
        placements: All placements of the plan.
        choice: The placement that was chosen, or came closest.
        machines: The machines, the device first.
        links: The links between the machines.
        switching: The best placements over the rate of the uplink.
        excluded_by: The placements that each limit excludes.
        default_loss: Whether the largest loss of accuracy is the default and not the user's.
        train: The split to train next, if there is one.

    """
    chosen, closest = choice.chosen, choice.closest
    estimated = any(placement.source == "estimated" for placement in placements) or any(
        link.source == "estimated" for link in links
    )
    scene = _scene(machines, links, estimated=estimated)
    if chosen is None:
        sentences = [f"{scene}: no placement keeps the limits."]
        # Splits that leave almost no work to the server are never recommended, so they do not count for limits.
        considered = sum(placement.worth_considering or not _divides(placement) for placement in placements)
        sentences += [
            excluded(entry, of=considered, default_loss=default_loss) for entry in excluded_by if entry.excludes
        ]
        nearest = f"The nearest is to {action(closest)}: {figures(closest, objective=choice.objective)}."
        sentences.append(f"{nearest} It breaks the limit on {broken_figures(closest, excluded_by)}.")
    else:
        worth = "Splitting is worth it here." if _splits(chosen) else "Splitting is not worth it here."
        sentences = [f"{scene}: {action(chosen)}: {figures(chosen, objective=choice.objective)}.", worth]
        if text := _opponent_text(chosen, placements):
            sentences.append(text)
        sentences += [_alternative(other, objective=choice.objective) for other in choice.alternatives]
        if text := _switching_text(switching, placements, first=links[0] if links else None):
            sentences.append(text)
    if train is not None:
        sentences.append(f"{train.reason} To settle it, run `{train.command}`.")
    if estimated:
        sentences.append(_estimated_text(machines, links))
    return Recommendation(
        text=" ".join(sentences),
        chosen=None if chosen is None else chosen.name,
        nearest=closest.name if chosen is None else None,
        worth_splitting=chosen is not None and _splits(chosen),
        estimated=estimated,
        switching=tuple(switching),
        excluded_by=tuple(excluded_by) if chosen is None else (),
        train=train,
    )


def _splits(placement: PlannedPlacement) -> bool:
    return _divides(placement) and placement.worth_considering


def _divides(placement: PlannedPlacement) -> bool:
    return placement.kind in ("split", "middle", "tiers")


def action(placement: PlannedPlacement) -> str:
    """Say what to do, in the imperative: "split after layer2.3 at 512 B"."""
    if placement.kind == "split":
        return f"split after {placement.cut} at {_budget(placement)}"
    if placement.kind == "remote":
        return f"send the image as {_image_words(placement)}"
    if placement.kind == "middle":
        return (
            f"split after {placement.cut} at {_budget(placement)} and run what follows {placement.second_cut} on the "
            "device again, so that the server never sees the answer"
        )
    if placement.kind == "segmented":
        return f"run it on the device in {len(placement.segments)} segments, one after the other"
    if placement.kind == "tiers":
        parts = [f"{_machine_range(segment.start, segment.end)} on {segment.machine}" for segment in placement.segments]
        return f"run {', '.join(parts[:-1])} and {parts[-1]} (payloads of {_budget(placement)})"
    return "run it on the device"


def _image_words(placement: PlannedPlacement) -> str:
    """Say which image is sent, and to which network where it is not the model as it is."""
    setting, _, training = placement.name.removeprefix("remote ").partition(", trained")
    if not _is_trained(placement):
        return setting
    return f"{setting} to a network trained on such images{f' ({training.strip()})' if training else ''}"


def _is_trained(placement: PlannedPlacement) -> bool:
    return placement.accuracy is not None and placement.accuracy.source == "trained"


def _opponent_text(chosen: PlannedPlacement, placements: Sequence[PlannedPlacement]) -> str:
    """Say that a trained split was compared with a network that was not trained on compressed images, if it was."""
    has_opponent = any(placement.kind == "remote" and _is_trained(placement) for placement in placements)
    return "" if has_opponent or not (_splits(chosen) and _is_trained(chosen)) else ASK_FOR_OPPONENT


def _machine_range(start: str | None, end: str | None) -> str:
    if start is None:
        return f"everything up to {end}" if end else "everything"
    return f"then up to {end}" if end else "the rest"


def _budget(placement: PlannedPlacement) -> str:
    budget = placement.budget
    if budget is None:
        return "their budget"
    return f"{budget.payload_bytes} B" if budget.payload_bytes is not None else f"one in {budget.element_ratio:g}"


def figures(placement: PlannedPlacement, *, objective: Objective = "latency") -> str:
    """Say latency, accuracy and bytes: "71 ms (p95 88), 81.9 % (-0.4 +- 0.6 points, closed form, 500 images)".

    With throughput or energy as the objective, its figure follows the latency.
    """
    text = f"{milliseconds(placement.latency_ms)} ms (p95 {milliseconds(placement.latency_p95_ms)})"
    text += _objective_text(placement, objective)
    if placement.accuracy is not None:
        text += f", {accuracy_text(placement.accuracy)}"
    if placement.wire_up_bytes:
        text += f", {size_text(placement.wire_up_bytes)} up and {size_text(placement.wire_down_bytes)} down"
    return text


def _objective_text(placement: PlannedPlacement, objective: Objective) -> str:
    """Say the figure of the objective if the other figures do not include it, with a comma before it."""
    if objective == "throughput":
        return f", {placement.throughput.images_per_s:,.3g} images per second"
    if objective == "energy" and placement.device_energy_mj is not None:
        return f", {placement.device_energy_mj:,.3g} mJ"
    return ""


def accuracy_text(accuracy: PlannedAccuracy) -> str:
    """Say an accuracy, its loss, the uncertainty of the loss, and its source."""
    text = f"{100 * accuracy.accuracy:.1f} %"
    if accuracy.source == "whole":
        return text
    notes: list[str] = []
    if accuracy.difference is not None:
        spread = "" if accuracy.stderr is None else f" ± {100 * accuracy.stderr:.1f}"
        notes.append(f"{100 * accuracy.difference:+.1f}{spread} points".replace("-", "−"))
    words = {
        "closed form": "untrained",
        "predicted": "predicted after training",
        "combined": "losses of both cuts added",
    }
    notes.append(words.get(accuracy.source, accuracy.source))
    if accuracy.images is not None:
        notes.append(f"{accuracy.images:,} images")
    return f"{text} ({', '.join(notes)})"


def milliseconds(value: float) -> str:
    """Write milliseconds with two digits below 10, and as whole numbers from 10 on."""
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"


def _scene(machines: Sequence[PlannedMachine], links: Sequence[LinkRecord], *, estimated: bool) -> str:
    text = f"On {_with_article(machines[0].title)}"
    if links:
        first = links[0]
        trip = ASSUMED_ROUND_TRIP if ASSUMED_ROUND_TRIP in first.sources else f"{milliseconds(first.rtt_ms)} ms"
        known = [rate_text(first.up_bits_per_s), trip]
        if first.loss_up:
            known.append(f"{100 * first.loss_up:g} % loss")
        if estimated:
            known.append("estimated")
        title = first.title if first.name != "stated" else "a link"
        text += f" over {title} ({', '.join(known)})"
        if machines[1:]:
            text += f" to {' and '.join(_with_article(machine.title) for machine in machines[1:])}"
    return text


def _with_article(title: str) -> str:
    first = title.split(" ", 1)[0]
    if first.lower() in ("a", "an", "the", "this", "my", "our"):
        return first.lower() + title[len(first) :]
    return f"{'an' if title[:1].lower() in 'aeio' else 'a'} {title}"


def _alternative(placement: PlannedPlacement, *, objective: Objective) -> str:
    latency = f"{milliseconds(placement.latency_ms)} ms{_objective_text(placement, objective)}"
    beginning = {
        "remote": f"Sending {_image_words(placement)}",
        "local": "On the device alone",
        "segmented": f"On the device in {len(placement.segments)} segments",
        "split": f"Splitting after {placement.cut} at {_budget(placement)}",
        "middle": f"With the last layers on the device (after {placement.cut} and {placement.second_cut})",
        "tiers": "Over all machines",
    }[placement.kind]
    words = broken_limits(placement)
    return f"{beginning}: {latency}{f' (breaks the limit on {words})' if words else ''}."


def _switching_text(
    switching: Sequence[SwitchingPoint], placements: Sequence[PlannedPlacement], *, first: LinkRecord | None
) -> str:
    kinds = {placement.name: placement.kind for placement in placements}
    if first is None or len(switching) < 2:
        return ""
    rate = max(first.up_bits_per_s, switching[0].from_bits_per_s)  # the points begin at a rate of their own
    current = max(
        (point for point in switching if point.from_bits_per_s <= rate), key=lambda point: point.from_bits_per_s
    )
    index = list(switching).index(current)
    phrases: list[str] = []
    if index > 0:
        before = switching[index - 1]
        phrases.append(f"below {rate_text(current.from_bits_per_s)} {_verb(before, kinds)}")
    if index + 1 < len(switching):
        after = switching[index + 1]
        phrases.append(f"above {rate_text(after.from_bits_per_s)} {_verb(after, kinds)}")
    text = "; ".join(phrases)
    return text[:1].upper() + text[1:] + "." if text else ""


def _verb(point: SwitchingPoint, kinds: dict[str, str]) -> str:
    return _KIND_VERBS[kinds[point.placement]] if point.placement else "nothing keeps the limits"


def _estimated_text(machines: Sequence[PlannedMachine], links: Sequence[LinkRecord]) -> str:
    guessed = [machine.name for machine in machines if machine.source == "estimated"]
    guessed += [link.name for link in links if link.source == "estimated"]
    if not guessed:
        return "Parts that nobody timed are estimated."
    return (
        f"These figures are estimated (from {', '.join(guessed)}); `isplit profile` and `isplit probe` replace the "
        "estimates by measurements."
    )
