"""Measure the cost of a request beside the model, the codec and the link: the work of both ends of the protocol."""

import time

from isplit.errors import EngineError
from isplit.records import Answer, TimeFigure
from isplit.runtime.bundle import Bundle
from isplit.runtime.edge.client import EdgeClient
from isplit.runtime.profile.rounds import PAUSE_S, summarise
from isplit.runtime.profile.settings import ProfileSettings
from isplit.runtime.served import served

_REQUESTS = 60
_WARM_UP = 10


def measure_request(bundle: Bundle, pictures: list[bytes], settings: ProfileSettings) -> TimeFigure:
    """Serve the bundle from another process on this machine, send requests one by one, and time the remainder.

    The remainder is a request's time without preprocessing, head, encoding, decoding and tail. It is that of the
    client, the server and the protocol between them, because the link takes no time on the loopback device.

    Args:
        bundle: A bundle with a cut, or with the whole model for the server.
        pictures: Image files' contents.
        settings: Threads and provider of the device.

    Raises:
        EngineError: a request was not answered.
        ServerError: the server did not start.

    """
    placement = bundle.record.cuts[-1].name if bundle.record.cuts else "remote"
    options = ("--threads", str(settings.threads))
    times_ms: list[float] = []
    with (
        served(bundle.directory, options=options) as address,
        EdgeClient(
            bundle,
            address,
            placement=placement,
            threads=settings.threads,
            provider=settings.provider,
            fallback=False,
        ) as client,
    ):
        for number in range(_WARM_UP + _REQUESTS):
            time.sleep(PAUSE_S)
            answer = client.classify(pictures[number % len(pictures)])
            if answer.source == "failed":
                msg = f"a request to this machine's own server failed: {answer.reason}"
                raise EngineError(msg)
            if number >= _WARM_UP:
                times_ms.append(request_ms(answer))
    return summarise(times_ms)


def request_ms(answer: Answer) -> float:
    """Return the part of an answer's time that is not timed separately; at least 0."""
    timings = answer.timings
    parts = (
        timings.decode_image_ms,
        timings.preprocess_ms,
        timings.head_ms,
        timings.encode_ms,
        timings.server_queue_ms,
        timings.server_decode_ms,
        timings.server_infer_ms,
    )
    return max(timings.total_ms - sum(part or 0.0 for part in parts), 0.0)
