"""A connection of the lean wire by itself: how much it does in one turn of the event loop."""

import asyncio

from isplit.runtime.lean.device_frames import MAX_CONTENT_BYTES, Opening, encode_opening, encode_request, hello
from isplit.runtime.lean.server_frames import FrameReader
from isplit.runtime.server.front.debt import Debt
from isplit.runtime.server.front.hub import Hub
from isplit.runtime.server.front.lean import LeanConnection
from isplit.runtime.server.front.limits import FrontLimits
from isplit.runtime.server.front.method import Method
from isplit.runtime.server.metrics import Metrics
from isplit.runtime.server.refusal_log import RefusalLog

OPENING = Opening(model="m", tensor="payload", classes=5, best=1)


class Output:
    """Keeps what is written."""

    peer = "192.0.2.1"

    def __init__(self):
        self.address_debt = Debt()
        self.written = []

    def write(self, data):
        self.written.append(data)

    def close(self):
        raise AssertionError("nothing is wrong with these frames")


def test_calls_of_a_turn():
    """As many calls as a batch holds are begun in a turn; the bytes of the others are left, and lose nothing."""
    begun = []

    async def answer(call):
        raise AssertionError("it is answered at once")

    def answer_now(call):
        begun.append(bytes(call.message))
        return b"body"

    method = Method(path="m", answer=answer, max_bytes=MAX_CONTENT_BYTES, answer_now=answer_now)

    async def test():
        limits = FrontLimits(message_bytes=MAX_CONTENT_BYTES, lean_turn_calls=3)
        refusals = RefusalLog(Metrics())
        hub = Hub((), limits=limits, token=None, refusals=refusals, open_lean=lambda opening: method)
        output = Output()
        connection = LeanConnection(output, hub)
        messages = [bytes([number] * number) for number in range(8)]  # the first one is empty
        requests = [encode_request(0, number, message, deadline_ms=0) for number, message in enumerate(messages)]
        data = hello("") + encode_opening(0, OPENING) + b"".join(requests)
        for expected in (3, 6, 8):
            data = data[connection.receive(data) :]
            assert messages[:expected] == begun
        assert b"" == data
        assert list(range(8)) == [FrameReader().feed(frame)[0].number for frame in output.written[1:]]
        await hub.close(0)

    asyncio.run(test())
