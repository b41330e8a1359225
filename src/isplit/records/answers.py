"""Record what a device was answered and how long each part took, as one line of JSON per image."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import ConfigDict, ValidationError

from isplit.errors import DataError
from isplit.records.base import Amount, Count, Part, Record, Share
from isplit.records.files import open_input
from isplit.text import json_text

AnswerSource = Literal["split", "remote", "local", "local-fallback", "failed"]


class Timings(Part):
    """The parts of an answer's time, in milliseconds. A part that did not take place is None.

    On the device, the parts are, in order, `decode_image_ms` (file to picture), `preprocess_ms` (picture to the
    model's pixels), `head_ms`, `encode_ms` (latent or pixels to payload) and `wire_ms`; or `local_ms`, the whole
    model. The server reports `server_queue_ms`, `server_decode_ms`, `server_infer_ms`, and `server_ms`, from the
    request's arrival there to its answer.

    `wire_ms` is the round trip of the attempt that was answered, minus `server_ms` (the whole round trip if the server
    reports no times). `retry_ms` is the time of failed attempts and of the waits between them. `total_ms` runs from
    when the image was handed over until its answer was ready; what it exceeds the parts by is the client's own work.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    decode_image_ms: Amount | None = None
    preprocess_ms: Amount | None = None
    head_ms: Amount | None = None
    encode_ms: Amount | None = None
    wire_ms: Amount | None = None
    server_queue_ms: Amount | None = None
    server_decode_ms: Amount | None = None
    server_infer_ms: Amount | None = None
    server_ms: Amount | None = None
    retry_ms: Amount | None = None
    local_ms: Amount | None = None
    total_ms: Amount


class Answer(Record):
    r"""The answer to one image.

    `placement` is the requested placement ("local", "remote" or a cut), and `source` tells where the answer came from.
    `reason` says why the source is "local-fallback" or "failed". A failed answer has no label, and no answer holds NaN
    or an infinite number. `late` marks an answer that came after its deadline. `label` is an index into the bundle's
    classes, and `probability` its softmax. `best` are the most probable classes with theirs, as many as were asked for;
    those that a server sent in 16 bits are rounded. `logits` are there if they were asked for, or were at hand.
    `attempts` counts the requests that were sent. `payload_bytes` is the payload of one request, with its header and
    without the protocol's framing. `server_batch` is the number of images that the server ran together.
    `started_unix_s` is the device's clock when it was handed the image. `image` is the image's name; its bytes that
    are not UTF-8 are written as `\xNN`.

    `provider` is the execution provider of this answer's model on the device ("cpu", "cuda", and so on; None if no
    model ran here), and `provider_fallback` says why it is not the requested one. `server_provider` is the server's,
    if the server reports one; isplit's does if it is not the CPU, or not the requested one.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    schema_name: ClassVar[str] = "isplit.answer/1"
    file_name: ClassVar[str] = "answers.jsonl"

    id: str
    index: Count
    image: str
    placement: str
    source: AnswerSource
    reason: str | None = None
    label: Count | None = None
    class_name: str | None = None
    probability: Share | None = None
    best: tuple[tuple[Count, Share], ...] = ()
    logits: tuple[float, ...] | None = None
    deadline_ms: Amount | None = None
    late: bool = False
    attempts: Count = 0
    payload_bytes: Count | None = None
    server_batch: Count | None = None
    provider: str | None = None
    provider_fallback: str | None = None
    server_provider: str | None = None
    started_unix_s: Amount
    timings: Timings

    def to_line(self, *, logits: bool = False) -> str:
        """Return the answer as one line of JSON, its schema first; logits are long and left out unless wanted.

        Every character that is not printable is escaped, so that every reader sees one line and no terminal obeys it.
        """
        fields = self.model_dump(mode="json", exclude=None if logits else {"logits"})
        document = json.dumps(
            {"schema": self.schema_name, **fields}, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        )
        return json_text(document) + "\n"


_LONGEST_LINE_BYTES = 2**24  # logits of 100,000 classes take 2 MiB


def read_answers(path: Path) -> Iterator[Answer]:
    """Read a file of answers, line by line.

    Raises:
        DataError: the file cannot be read, or a line is not an answer; the message gives its number.

    """
    try:
        with open_input(path) as lines:
            for number, line in enumerate(iter(lambda: lines.readline(_LONGEST_LINE_BYTES + 1), b""), start=1):
                if len(line) > _LONGEST_LINE_BYTES:
                    msg = f"{path}, line {number}, is longer than the {_LONGEST_LINE_BYTES:,} bytes that an answer has"
                    raise DataError(msg)
                try:
                    yield Answer.from_json(line)
                except (ValidationError, ValueError, RecursionError) as error:
                    msg = f"{path}, line {number}, is not an answer of `isplit run`: {error}"
                    raise DataError(msg) from error
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror or error}"
        raise DataError(msg) from error
