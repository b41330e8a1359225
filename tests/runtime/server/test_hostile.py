"""One test per hostile request: the right status, nothing computed, nothing left behind, and the server goes on."""

import io
import struct
import zlib

import grpc
import pytest
import zstandard
from PIL import Image
from tritonclient.grpc import service_pb2

from isplit.codec.coders import CODER_IDS
from isplit.codec.frame import HEADER_BYTES, pack_frame
from tests.runtime.server.conftest import SHAPE

CUT = "tiny.stage.1"
INFER = "/inference.GRPCInferenceService/ModelInfer"


@pytest.fixture
def refused(running, wire, tiny):
    """Send a request that must be refused: give the status and words that its message must hold."""

    def computed_and_waiting():
        lines = running.metrics().splitlines()
        return [line for line in lines if line.startswith(("isplit_images_total", "isplit_waiting_images"))]

    def check(request, *, status="INVALID_ARGUMENT", match=""):
        before = computed_and_waiting()
        got, details = running.status(request)
        assert status == got, details
        assert match in details
        assert len(details) <= 400
        assert before == computed_and_waiting()
        assert all(line.endswith(" 0.0") for line in before if "waiting" in line)

    yield check
    good = wire.infer_request(CUT, "latent", "UINT8", SHAPE, tiny.latents["stage.1"][:1].tobytes())
    assert tiny.logits[:1].tobytes() == running.stub.ModelInfer(good).raw_output_contents[0]


@pytest.fixture
def refused_raw(running):
    """Send bytes that are no request."""
    call = running.channel.unary_unary(INFER)

    def check(raw, *, status="INVALID_ARGUMENT", match="", **options):
        with pytest.raises(grpc.RpcError) as caught:
            call(raw, timeout=20, **options)
        assert status == caught.value.code().name, caught.value.details()
        assert match in caught.value.details()

    return check


@pytest.fixture
def latent(tiny):
    return tiny.latents["stage.1"][0].tobytes()


@pytest.fixture
def frame(tiny):
    return tiny.bundle.codec("stage.1").encode_symbols(tiny.latents["stage.1"][0])


@pytest.mark.parametrize(
    "model", ["", "tiny", "tiny.", "other.stage.1", "tiny.stage.1 ", "../tiny.stage.1", "x" * 9999]
)
def test_unknown_model(refused, wire, latent, model):
    """A model that is not there is NOT_FOUND."""
    refused(
        wire.infer_request(model, "latent", "UINT8", SHAPE, latent), status="NOT_FOUND", match="this server has tiny"
    )


def test_unknown_version(refused, wire, latent):
    """So is another version of one that is."""
    request = wire.infer_request(CUT, "latent", "UINT8", SHAPE, latent, model_version="2")
    refused(request, status="NOT_FOUND", match="version '2'")


@pytest.mark.parametrize(
    ("name", "datatype"),
    [("payload", "UINT8"), ("latent", "BYTES"), ("latent", "FP32"), ("image", "BYTES"), ("", ""), ("logits", "FP32")],
)
def test_wrong_tensor(refused, wire, latent, name, datatype):
    """A tensor that the model does not have, or not of that type."""
    refused(wire.infer_request(CUT, name, datatype, SHAPE, latent), match="give 'payload' BYTES or 'latent' UINT8")


def test_no_tensor(refused):
    """A request without an input."""
    refused(service_pb2.ModelInferRequest(model_name=CUT), match="0 input tensors")


def test_two_tensors(refused, wire, latent):
    """Payload and latent in one request."""
    request = wire.infer_request(CUT, "latent", "UINT8", SHAPE, latent)
    request.inputs.add(name="payload", datatype="BYTES", shape=[1])
    refused(request, match="2 input tensors")


@pytest.mark.parametrize(
    "shape",
    [[], [1], [4, 4, 4], [1, 4, 4, 5], [1, 64], [0, 4, 4, 4], [-1, 4, 4, 4], [2**62, 4, 4, 4], [33, 4, 4, 4], [1] * 99],
)
def test_wrong_shape(refused, wire, latent, shape):
    """Another shape than the latent's, no image, fewer, or more than a batch holds."""
    refused(wire.infer_request(CUT, "latent", "UINT8", shape, latent), match="[N, 4, 4, 4] with N from 1 to 32")


@pytest.mark.parametrize("shape", [[], [0], [-1], [33], [2**62], [1, 1]])
def test_wrong_shape_of_bytes(refused, wire, frame, shape):
    """The same for payloads."""
    refused(wire.infer_request(CUT, "payload", "BYTES", shape, wire.prefixed(frame)), match="[N] with N from 1 to 32")


@pytest.mark.parametrize("change", [-1, 1, 64])
def test_wrong_length(refused, wire, latent, change):
    """Fewer or more values than the shape says."""
    content = latent[:change] if change < 0 else latent + latent[:change]
    refused(wire.infer_request(CUT, "latent", "UINT8", SHAPE, content), match=f"has {64 + change} values")


def test_symbol_beyond_levels(refused, wire):
    """A value that no quantiser of this cut gives."""
    refused(wire.infer_request(CUT, "latent", "UINT8", SHAPE, b"\x10" * 64), match="holds 16, its symbols end at 15")


def test_no_content(refused, wire):
    """A tensor without content, as when it is said to be in shared memory."""
    request = wire.infer_request(CUT, "latent", "UINT8", SHAPE)
    request.inputs[0].parameters["shared_memory_region"].string_param = "/dev/shm/a"
    refused(request, match="has 0 values")


def test_content_twice(refused, wire, latent):
    """Content for two tensors, or the same in both places."""
    refused(wire.infer_request(CUT, "latent", "UINT8", SHAPE, latent, latent), match="more content")
    request = wire.infer_request(CUT, "latent", "UINT8", SHAPE, latent)
    request.inputs[0].contents.uint_contents.extend(latent)
    refused(request, match="more content")


def test_typed_values_beyond_a_byte(refused, wire, latent):
    """Numbers that UINT8 cannot hold."""
    request = wire.infer_request(CUT, "latent", "UINT8", SHAPE)
    request.inputs[0].contents.uint_contents.extend([*latent[:-1], 2**32 - 1])
    refused(request, match="UINT8 ends at 255")


@pytest.mark.parametrize("contents", [{"fp32_contents": [1.0] * 64}, {"bytes_contents": [b"a" * 64]}])
def test_typed_contents_of_another_type(refused, wire, contents):
    """Content of another type than the tensor's counts as none."""
    request = wire.infer_request(CUT, "latent", "UINT8", SHAPE)
    for name, values in contents.items():
        getattr(request.inputs[0].contents, name).extend(values)
    refused(request, match="has 0 values")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x01\x00\x00",
        b"\xff\xff\xff\xff",
        b"\x05\x00\x00\x00abc",
        b"\x01\x00\x00\x00a\x01\x00\x00\x00b",
        b"\x00\x00\x00\x00\x00",
        b"\x00\x00\x00\x00" * 100_000,
    ],
)
def test_elements(refused, wire, content):
    """Raw content whose lengths do not add up to the elements that the shape says."""
    refused(wire.infer_request(CUT, "payload", "BYTES", [1], content), match="'payload'")


def test_element_too_long(refused, wire, tiny):
    """A payload longer than the codec can have made, raw or not."""
    too_long = b"a" * (tiny.bundle.codec("stage.1").max_payload_bytes + 1)
    refused(wire.infer_request(CUT, "payload", "BYTES", [1], wire.prefixed(too_long)), match="at most")
    request = wire.infer_request(CUT, "payload", "BYTES", [1])
    request.inputs[0].contents.bytes_contents.append(too_long)
    refused(request, match="at most")


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda frame: b"", "fewer than its header's"),
        (lambda frame: frame[:1], "fewer than its header's"),
        (lambda frame: frame[:-1], "damaged on the way"),
        (lambda frame: frame + b"a", "damaged on the way"),
        (lambda frame: b"xx" + frame[2:], "damaged on the way"),
        (lambda frame: frame[:-1] + bytes([frame[-1] ^ 1]), "damaged on the way"),
        (lambda frame: b"iS\1" + frame, "looks like one of version 1"),
    ],
)
def test_frame(refused, wire, frame, damage, match):
    """A frame that is empty, cut, lengthened, damaged or of an older version."""
    content = wire.prefixed(damage(frame))
    refused(wire.infer_request(CUT, "payload", "BYTES", [1], content), match=match)


@pytest.mark.parametrize("content", [b"", b"a", bytes(40), b"\xff" * 40])
def test_frame_with_a_right_check(refused, wire, tiny, content):
    """A frame whose check is right and whose content is none of the codec's."""
    codec = tiny.bundle.codec("stage.1")
    frame = pack_frame(content, coder=CODER_IDS["zstd"], codec_id=codec.codec_id)
    refused(wire.infer_request(CUT, "payload", "BYTES", [1], wire.prefixed(frame)))


def test_zstd_bomb(refused, wire, tiny):
    """A frame that is right in all but what its content unpacks to."""
    codec = tiny.bundle.codec("stage.1")
    bomb = zstandard.ZstdCompressor().compress(bytes(10**6))
    assert HEADER_BYTES + len(bomb) <= codec.max_payload_bytes
    frame = pack_frame(bomb, coder=CODER_IDS["zstd"], codec_id=codec.codec_id)
    refused(wire.infer_request(CUT, "payload", "BYTES", [1], wire.prefixed(frame)))


def test_one_bad_among_good(refused, wire, frame):
    """One damaged payload refuses its request, not only its row."""
    request = wire.infer_request(CUT, "payload", "BYTES", [2], wire.prefixed(frame, frame[:-1]))
    refused(request, match="damaged on the way")


def test_frame_of_another_cut(refused, wire, tiny):
    """A payload of the bundle's other cut."""
    frame = tiny.bundle.codec("stage.2").encode_symbols(tiny.latents["stage.2"][0])
    refused(wire.infer_request(CUT, "payload", "BYTES", [1], wire.prefixed(frame)))


def test_unknown_output(refused, wire, latent):
    """An output that the model does not have."""
    request = wire.infer_request(CUT, "latent", "UINT8", SHAPE, latent)
    request.outputs.add(name="features")
    refused(request, match="no output 'features'")


def test_long_id(refused, wire, latent):
    """An id that would be sent back at length."""
    refused(wire.infer_request(CUT, "latent", "UINT8", SHAPE, latent, id="i" * 257), match="at most 256")


def png_bomb(width, height):
    """A PNG of so many pixels, all black, in a few bytes for its size."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(min((width // 8 + 2) * height, 10**6)), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def picture(form, size=(9, 7), **options):
    file = io.BytesIO()
    Image.effect_noise(size, 50).convert("RGB").save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "cannot be read"),
        (b"nonsense" * 100, "cannot be read"),
        (picture("GIF"), "cannot be read"),
        (picture("BMP"), "cannot be read"),
        (picture("TIFF"), "cannot be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "cannot be read"),
        (picture("JPEG")[:-40], "image"),
        (picture("PNG")[:60], "image"),
        (picture("WEBP")[:-10], "image"),
        (png_bomb(2000, 2000), "2000 x 2000 pixels"),
        (png_bomb(50_000, 50_000), "pixels"),
        (png_bomb(2**31 - 1, 2**31 - 1), "pixels"),
        (png_bomb(1, 500_000), "after resizing"),
        (picture("PNG", size=(200, 200)) + bytes(20_000), "at most 20000"),
    ],
)
def test_picture(refused, wire, content, match):
    """What is no image, of a format that is not accepted, cut off, a bomb, too elongated, or too long."""
    refused(wire.infer_request("tiny.remote", "image", "BYTES", [1], wire.prefixed(content)), match=match)


@pytest.mark.parametrize(
    "raw", [b"\xff" * 100, b"\x0a\xff\xff\xff\xff\x0f", b"\x0b", b"\x3a\x05abc", b"\x0a\x02\xff\xfe"]
)
def test_no_message(refused_raw, raw):
    """Bytes that are no request are the caller's fault, not the server's."""
    refused_raw(raw, match="not a ModelInferRequest")


def test_empty_message(refused_raw):
    """No bytes are a request for the model without a name."""
    refused_raw(b"", status="NOT_FOUND")


@pytest.mark.parametrize("field", [b"\x2a\x00", b"\x22\x00", b"\x32\x00", b"\x3a\x00", b"\x28\x00"])
def test_flood_of_fields(refused_raw, field):
    """Many tiny submessages, each of which would take a hundred bytes of memory, are counted before they are built."""
    refused_raw(field * 5000, match="more fields than")


@pytest.mark.parametrize("inner", [b"\x22\x00", b"\x2a\x00"])
def test_flood_inside(refused_raw, inner):
    """The same inside an input."""
    length = len(inner) * 4500
    prefix = bytes([0x2A, length & 0x7F | 0x80, length >> 7])
    refused_raw(prefix + inner * 4500, match="more fields than")


def test_message_too_long(refused_raw, wire):
    """A message longer than any request for this bundle is not read."""
    request = wire.infer_request("tiny.remote", "image", "BYTES", [1], bytes(40 * 20_000))
    refused_raw(request.SerializeToString(), status="RESOURCE_EXHAUSTED", match="800036 bytes, at most 656512")


def test_compressed_message(refused_raw, wire):
    """A compressed message is not unpacked, whatever it would become."""
    request = wire.infer_request(CUT, "payload", "BYTES", [1], bytes(10**7))
    refused_raw(request.SerializeToString(), status="UNIMPLEMENTED", compression=grpc.Compression.Gzip)


def test_fields_within_the_limit(running, latent, wire):
    """Parameters that we do not know, in a number that no client exceeds, do no harm."""
    request = wire.infer_request(CUT, "latent", "UINT8", SHAPE, latent)
    for number in range(100):
        request.parameters[f"p{number}"].int64_param = number
    assert running.stub.ModelInfer(request).raw_output_contents
