"""Say in a plan what is known about each of its machines, so that the plan can be read without their profiles."""

from isplit.plan.compute import MachineTimes
from isplit.records import CutTimes, PlannedMachine


def planned_machine(times: MachineTimes) -> PlannedMachine:
    """Return a machine's description with the times, in milliseconds, that the plan computes with.

    Heads and tails are those of the model without bottlenecks, whose times are in the placements.
    """
    profile = times.profile
    return PlannedMachine(
        name=profile.name,
        title=profile.title,
        source=profile.source,
        scale=profile.scale,
        spread=times.spread,
        power=profile.power,
        machine=profile.machine,
        execution=profile.execution,
        preprocess_ms=times.preprocess_ms(),
        whole_ms=times.whole_ms,
        cuts=tuple(_cut_times(times, name) for name in times.shape.names if name is not None),
        memory=profile.memory,
    )


def _cut_times(times: MachineTimes, cut: str) -> CutTimes:
    head_ms, head_source = times.head_ms(cut, budget=None, encoder_macs=0.0)
    tail_ms, tail_source = times.tail_ms(cut, budget=None, decoder_macs=0.0)
    return CutTimes(cut=cut, head_ms=head_ms, head_source=head_source, tail_ms=tail_ms, tail_source=tail_source)
