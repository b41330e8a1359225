"""Settings of simulations: what cannot be simulated is refused when the settings are built."""

import numpy as np
import pytest

from isplit.errors import InputError
from isplit.plan.simulation_settings import SimulationSettings


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"devices": 0}, "devices is 0; give a number from 1 to 5,000,000"),
        ({"period_ms": 0}, "period"),
        ({"period_ms": float("nan")}, "period"),
        ({"duration_s": -1}, "duration"),
        ({"duration_s": float("inf")}, "duration"),
        ({"deadline_ms": float("inf")}, "deadline"),
        ({"batch_gain": float("nan")}, "batch_gain is nan"),
        ({"packet_bytes": 20}, "packet_bytes is 20; give a number from 68 to 65,535"),
        ({"seed": -1}, "seed is -1"),
        ({"arrivals": "trace", "times_s": (1.0, float("nan"))}, "times_s"),
        ({"times_s": None}, "times_s"),
        ({"times_s": ("1",)}, "times_s"),
        ({"times_s": ((1.0,), (1.0, 2.0))}, "times_s"),
        ({"workers": 0}, "workers is 0"),
        ({"max_batch": 0}, "max_batch is 0"),
        ({"queue_capacity": 0}, "queue_capacity is 0"),
        ({"early_exit_share": 1.5}, "early_exit_share is 1.5"),
        ({"deadline_ms": 0}, "deadline"),
        ({"controller": "oracle"}, "controller is 'oracle', which needs a link that changes"),
        ({"controller": "clever"}, "controller is 'clever'; choose one of static, oracle, adaptive"),
        ({"transport": "UDP"}, "transport is 'UDP'; choose one of tcp, udp"),
        ({"arrivals": "random"}, "arrivals is 'random'; choose one of periodic, poisson, trace"),
        ({"arrivals": "trace"}, "no request times"),
        ({"arrivals": "trace", "times_s": np.empty(0)}, "no request times"),
    ],
)
def test_what_cannot_be_simulated_is_refused(fields: dict[str, object], words: str):
    """Counts below one, times that are none, shares outside 0 to 1, unknown choices, and what lacks a trace."""
    with pytest.raises(InputError, match=words):
        SimulationSettings(**fields)  # type: ignore[arg-type]


def test_times_may_be_an_array():
    """Request times from numpy are taken as a list of them is."""
    times_s = np.array([0.5, 1.0])
    assert times_s is SimulationSettings(arrivals="trace", times_s=times_s).times_s  # type: ignore[arg-type]
