"""The server's frames on the lean wire: byte for byte, there and back, torn and refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isplit.runtime.lean.device_frames import LeanWireError, Opening
from isplit.runtime.lean.server_frames import (
    ANSWER,
    ERROR,
    STATUSES,
    AnswerBody,
    FrameReader,
    ServerFrame,
    ServerTimes,
    best_classes,
    best_classes_of_rows,
    decode_answer,
    decode_error,
    encode_answer,
    error_body,
    server_frame,
)

FRAMES = st.builds(
    ServerFrame, kind=st.sampled_from([ANSWER, ERROR]), number=st.integers(0, 2**32 - 1), body=st.binary(max_size=40)
)
HALVES = st.floats(0, 65_504, width=16)
TIMES = st.builds(
    ServerTimes,
    batch_size=st.integers(0, 65_535),
    decode_ms=HALVES,
    queue_ms=HALVES,
    infer_ms=HALVES,
    server_ms=HALVES,
)


def opened(classes, best, *, wants_logits=False):
    return Opening(model="m", tensor="payload", classes=classes, best=best, wants_logits=wants_logits)


def test_golden():
    """The bytes of an answer and of an error are these, for ever."""
    times = ServerTimes(batch_size=2, decode_ms=0.5, queue_ms=0.0, infer_ms=1.5, server_ms=2.0)
    body = encode_answer(opened(300, 1), AnswerBody(best=((258, 1.0),), times=times, provider="cuda"))
    assert "060102ffff0002380000003e00400004" + b"cuda".hex() == body.hex()
    assert "0000000007000161" == server_frame(ANSWER, 7, b"a").hex()
    assert "05" + b"no".hex() == error_body("NOT_FOUND", "no").hex()


def test_times_that_do_not_fit_are_the_longest():
    """Times of more than 65 seconds, and batches of more than 65,535 images, are cut to what the frame can hold."""
    opening = Opening(model="m", tensor="payload", classes=3, best=0, wants_timings=True)
    times = ServerTimes(batch_size=70_000, decode_ms=0.5, queue_ms=1e6, infer_ms=65_504.0, server_ms=1.0)
    expected = ServerTimes(batch_size=65_535, decode_ms=0.5, queue_ms=65_504.0, infer_ms=65_504.0, server_ms=1.0)
    assert expected == decode_answer(opening, encode_answer(opening, AnswerBody(times=times))).times


def test_the_five_best_classes_take_at_most_40_bytes():
    """With up to 65,536 classes and the server's times, an answer keeps within the bytes that were promised."""
    times = ServerTimes(batch_size=16, decode_ms=0.1, queue_ms=0.2, infer_ms=0.3, server_ms=0.7)
    best = tuple((label, 0.1) for label in range(5))
    lengths = [
        len(server_frame(ANSWER, 1, encode_answer(opened(classes, 5), AnswerBody(best=best, times=given_times))))
        for classes in (256, 65_536)
        for given_times in (None, times)
    ]
    assert [23, 33, 28, 38] == lengths


@given(st.data(), st.sampled_from([1, 2, 10, 256, 257, 1000, 65_536, 100_000]), st.integers(0, 255))
def test_an_answer_comes_back(data, classes, best):
    """Classes are exact, and probabilities are right to half a step of 16 bits."""
    opening = opened(classes, best)
    labels = [data.draw(st.integers(0, classes - 1)) for _ in range(opening.answer_classes)]
    given_best = tuple((label, data.draw(st.floats(0, 1))) for label in labels)
    answer = AnswerBody(
        best=given_best, times=data.draw(st.none() | TIMES), provider=data.draw(st.sampled_from(["", "ä"]))
    )
    got = decode_answer(opening, encode_answer(opening, answer))
    assert labels == [label for label, _ in got.best]
    assert all(abs(mine - theirs) <= 0.51 / 65_535 for (_, mine), (_, theirs) in zip(given_best, got.best, strict=True))
    assert (answer.times, answer.provider) == (got.times, got.provider)


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=30))
def test_logits_come_back(values):
    """All logits are the same floats."""
    opening = opened(len(values), 5, wants_logits=True)
    body = encode_answer(opening, AnswerBody(logits=np.array(values, np.float32)))
    assert values == decode_answer(opening, body).logits.tolist()


@given(st.lists(FRAMES, max_size=5), st.data())
def test_frames_may_be_torn_anywhere(frames, data):
    """However the bytes are cut, the same frames come out."""
    content = b"".join(server_frame(frame.kind, frame.number, frame.body) for frame in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=6)))
    reader = FrameReader()
    got = []
    for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True):
        got += reader.feed(content[start:end])
    assert frames == got


@given(st.binary(max_size=60), st.sampled_from([1, 10, 300]), st.booleans())
def test_a_hostile_body_is_an_answer_or_refused(body, classes, wants_logits):
    """Any bytes are either an answer of existing classes, or one error."""
    opening = opened(classes, 3, wants_logits=wants_logits)
    try:
        answer = decode_answer(opening, body)
    except LeanWireError:
        return
    assert all(label < classes for label, _ in answer.best)
    assert answer.logits is None or np.isfinite(answer.logits).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_refused(value):
    """NaN and infinite logits of a server do not become an answer."""
    opening = opened(2, 1, wants_logits=True)
    body = encode_answer(opening, AnswerBody(logits=np.array([1.0, value], np.float32)))
    with pytest.raises(LeanWireError):
        decode_answer(opening, body)


def test_a_body_of_another_length_is_refused():
    """Bytes after the answer's end are not ignored."""
    opening = opened(10, 1)
    with pytest.raises(LeanWireError, match="of which 4 are known"):
        decode_answer(opening, encode_answer(opening, AnswerBody(best=((1, 0.5),))) + b"x")


def test_an_unknown_kind_of_frame_is_refused():
    """The reader does not wait for a frame that does not exist."""
    with pytest.raises(LeanWireError):
        FrameReader().feed(b"\x02" + bytes(6))


@given(st.sampled_from(sorted(STATUSES)), st.text(max_size=2000))
def test_an_error_comes_back(status, message):
    """Its status does, and the message up to a kibibyte."""
    got_status, got_message = decode_error(error_body(status, message))
    assert status == got_status
    assert got_message.startswith(message[:200])


@given(st.binary(max_size=20))
def test_any_bytes_are_an_error(body):
    """An unknown status is UNKNOWN, and a message that is no text is replaced."""
    status, _ = decode_error(body)
    assert status in STATUSES


@given(st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=30), st.integers(1, 30))
def test_best_classes(values, count):
    """They fall, they are at most one together, and the first is the largest logit's."""
    best = best_classes(np.array(values, np.float32), count)
    probabilities = [probability for _, probability in best]
    assert min(count, len(values)) == len(best)
    assert int(np.argmax(np.array(values, np.float32))) == best[0][0]
    assert sorted(probabilities, reverse=True) == probabilities
    assert sum(probabilities) <= 1 + 1e-9


@given(st.lists(st.lists(st.floats(-50, 50, width=32), min_size=4, max_size=4), min_size=1, max_size=5))
def test_best_classes_of_a_batch(rows):
    """Each row's best classes are those that it has alone, with equal logits in the order of the classes."""
    logits = np.array(rows, np.float32)
    batch = best_classes_of_rows(logits, 3)
    assert [[label for label, _ in best_classes(row, 3)] for row in logits] == [
        [label for label, _ in best] for best in batch
    ]
    for row, best in zip(logits, batch, strict=True):
        exponentials = np.exp(row.astype(float))
        expected = [exponentials[label] / exponentials.sum() for label, _ in best]
        assert expected == pytest.approx([probability for _, probability in best], rel=1e-9)
