"""What crosses between isplit's client and server, counted by a proxy between the two: the records' figures hold."""

import statistics
from dataclasses import replace

from isplit.codec.codec import Codec
from isplit.records import MEASURED_WIRE_OVERHEAD
from isplit.runtime.bench.proxy import proxied
from isplit.runtime.bundle import Bundle
from isplit.runtime.edge.client import EdgeClient
from isplit.runtime.server import serving
from tests.runtime.conftest import CLASSES, write_tiny_bundle

OVERHEAD = MEASURED_WIRE_OVERHEAD.with_classes(len(CLASSES))


def overheads(bundle, placement, images):
    """Return the median bytes per request, up without the content and down, on a warm connection."""
    with serving(bundle) as server, proxied(server.address) as (address, counted):
        ups, downs = [], []
        with EdgeClient(bundle, address, placement=placement, fallback=False) as client:
            client.classify(images[0])  # the first request opens the connection and teaches the header tables
            for image in images:
                before = replace(counted)
                answer = client.classify(image)
                ups.append(counted.up_bytes - before.up_bytes - answer.payload_bytes)
                downs.append(counted.down_bytes - before.down_bytes)
    return statistics.median(ups), statistics.median(downs)


def test_split(tiny):
    """A payload costs what the record says, both ways."""
    up, down = overheads(tiny.bundle, "stage.2", tiny.images)
    assert (OVERHEAD.split_up_bytes, OVERHEAD.split_down_bytes) == (up, down)


def test_image(tiny):
    """A compressed image costs what the record says, both ways."""
    up, down = overheads(tiny.bundle, "remote", tiny.images)
    assert (OVERHEAD.image_up_bytes, OVERHEAD.image_down_bytes) == (up, down)


def test_a_shorter_header_is_saved_on_the_wire(tiny, tmp_path):
    """A bundle with frames of version 1 still runs, and its requests are longer by the difference of the headers."""
    write_tiny_bundle(tmp_path / "old", frame=1)
    old = Bundle.open(tmp_path / "old")
    assert 1 == Codec.load(tmp_path / "old" / "stage.1.codec.npz").frame
    totals = {}
    for name, bundle in (("old", old), ("new", tiny.bundle)):
        with serving(bundle) as server, EdgeClient(bundle, server.address, fallback=False, logits=True) as client:
            for cut in ("stage.1", "stage.2"):
                answers = list(client.run(tiny.images, placement=cut))
                assert tiny.logits.tolist() == [list(answer.logits) for answer in answers]
                totals[name, cut] = [answer.payload_bytes for answer in answers]
    for cut in ("stage.1", "stage.2"):
        assert {18} == {before - after for before, after in zip(totals["old", cut], totals["new", cut], strict=True)}
