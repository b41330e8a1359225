"""The client's small records are values: given by name, and never changed, for several threads share them."""

from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest

from isplit.runtime.edge.device import Wire
from isplit.runtime.edge.pictures import NoPicture
from isplit.runtime.edge.policy import BreakerSettings, Retry
from isplit.runtime.edge.security import Tls
from isplit.runtime.edge.sender import Sent
from isplit.runtime.edge.summary import PartTime
from isplit.runtime.edge.transport import Reply, Request

REPLY = Reply(id="", logits=np.zeros(1, np.float32))
VALUES = [
    Retry(),
    BreakerSettings(),
    Tls(),
    NoPicture(reason="gone"),
    Wire(tensor="payload", content=b"", shape=(1,)),
    Request(id="", model="", tensor="payload", content=b"", shape=(1,)),
    REPLY,
    Sent(reply=REPLY, attempts=1, round_trip_ms=1.0, retry_ms=0.0),
    PartTime(name="head", answers=1, median_ms=1.0, p95_ms=1.0),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values(value):
    """A record is given by name and does not change."""
    first = fields(value)[0].name
    with pytest.raises(FrozenInstanceError):
        setattr(value, first, None)
    with pytest.raises(TypeError):
        type(value)(*(getattr(value, field.name) for field in fields(value)))
