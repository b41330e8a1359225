"""The edge client on streams of images, and in several threads: every image is answered once."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isplit.runtime.edge.policy import BreakerSettings
from tests.runtime.edge.scripted_clients import failing, logits


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_stream(tiny, client, depth):
    """A stream answers every image once, in order."""
    answers = list(client.run(tiny.images, depth=depth))
    np.testing.assert_array_equal(tiny.logits, logits(answers))
    assert list(range(24)) == [answer.index for answer in answers]


@given(
    script=st.lists(st.sampled_from(["OK", "OK", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "NOT_FOUND", "INTERNAL"])),
    depth=st.integers(1, 5),
    failures=st.sampled_from([1, 3, 1000]),
    fallback=st.booleans(),
)
def test_exactly_once(tiny, script, depth, failures, fallback):
    """Whatever fails and when: one answer per image, in order, right or marked as failed."""
    breaker = BreakerSettings(failures=failures, open_ms=1e9, max_open_ms=1e9)
    with failing(tiny.bundle, *script, breaker=breaker, fallback=fallback) as client:
        answers = list(client.run(tiny.images[:8], depth=depth))
    assert list(range(8)) == [answer.index for answer in answers]
    for answer, expected in zip(answers, tiny.logits, strict=False):
        if answer.source == "failed":
            assert (None, False) == (answer.logits, fallback)
            assert answer.reason
        else:
            assert tuple(expected.tolist()) == answer.logits


def test_damaged_image_in_a_stream(tiny, client):
    """A damaged image among others has its own answer, and the others have theirs."""
    answers = list(client.run([("a", tiny.images[0]), ("b", b"broken"), ("c", tiny.images[2])]))
    assert [("a", "split"), ("b", "failed"), ("c", "split")] == [(answer.image, answer.source) for answer in answers]


def test_placement_per_image(tiny, client, server):
    """A controller is asked before each image, and nothing is opened anew."""
    chosen = iter(["stage.1", "local", "stage.2", "remote"])
    answers = list(client.run(tiny.images[:4], placement=lambda: next(chosen)))
    assert ["split", "local", "split", "remote"] == [answer.source for answer in answers]
    assert ["tiny.stage.1", "tiny.stage.2", "tiny.remote"] == [request.model for request in server.asked]


def test_threads_share_a_client(tiny, client):
    """Several threads may classify with one client."""
    answers = [None] * 24

    def work(first):
        for index in range(first, 24, 4):
            answers[index] = client.classify(tiny.images[index])

    threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(tiny.logits, logits(answers))
