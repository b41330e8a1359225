"""Describe a bundle: the manifest of a directory that a device and a server can run."""

import hashlib
import re
from pathlib import Path, PurePosixPath
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, Field, model_validator

from isplit.records.base import Amount, Count, Part, Share
from isplit.records.budget import RecordedBudget
from isplit.records.compression import Compression, ImageFormat
from isplit.records.files import open_ordinary
from isplit.records.paired import Paired
from isplit.records.study import Accuracy, ClassGroup, PartName, Preprocessing
from isplit.records.tables import TableRecord, named

RESERVED_CUTS = frozenset(("local", "remote", "segmented"))
"""The names of the other placements, which a cut must not have."""


def _bundle_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        msg = f"the name is {name!r}; use 1 to 64 letters, digits, - and _ (a model's name on the wire is NAME.CUT)"
        raise ValueError(msg)
    return name


def _relative_path(path: str) -> str:
    """Accept a path only in the form that a bundle writes: relative, with slashes, going down."""
    parts = PurePosixPath(path).parts
    plain = path.isprintable() and "\\" not in path and ":" not in path
    if not parts or not plain or str(PurePosixPath(path)) != path or parts[0] == "/" or ".." in parts or path == ".":
        msg = f"the path {path!r} is not a plain relative one, as in 'tails/a.onnx': it could leave the bundle"
        raise ValueError(msg)
    return path


BundleName = Annotated[str, AfterValidator(_bundle_name)]
BundlePath = Annotated[str, AfterValidator(_relative_path)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class BundledFile(Part):
    """A file's size and the SHA-256 of its content."""

    bytes: int = Field(ge=0)
    sha256: Sha256

    @classmethod
    def of(cls, path: Path) -> Self:
        """Describe an existing file.

        Raises:
            OSError: it cannot be read.

        """
        with open_ordinary(path) as file:
            return cls(bytes=path.stat().st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest())


class ExportCheck(Part):
    """The comparison of exported files in onnxruntime with torch, on images of the select part.

    `classes_answered` is the number of different answers that torch gave; if it is one, equal answers mean nothing.
    Latents are compared in symbols: the largest difference, and the share that differ. `logits_difference_max` and
    `top1_changed` (images) are computed from the image to the logits; `tail_difference_max` with the same latents on
    both sides.
    """

    images: Count
    classes_answered: Count
    latent_lsb_max: Count
    latents_different_share: Share
    logits_difference_max: Amount
    tail_difference_max: Amount
    top1_changed: Count


class Int8Cost(Part):
    """The cost of a head that computes in eight bits, beside the same head in float32, on the select part.

    `against_float32` pairs both splits on the same images, and `agreement` is the share of images with equal answers.
    `calibration_images` are of the fit part. Bytes are of one image, header included; `head_bytes` are those of the
    weights.
    """

    calibration_images: Count
    float32_accuracy: Accuracy
    accuracy: Accuracy
    against_float32: Paired
    agreement: Share
    latents_different_share: Share
    float32_payload_bytes_mean: Amount
    payload_bytes_mean: Amount
    float32_head_bytes: Count
    head_bytes: Count


class LocalPlacement(Part):
    """The whole model on the device: ONNX, input `image` uint8 N×H×W×C, output `logits` float32 N×K.

    `part` names the part of the data that `accuracy` was measured on (None in bundles of older versions).
    """

    file: BundlePath
    accuracy: Accuracy | None
    part: PartName | None = None
    int8: bool = False


class DividedLayer(Part):
    """A layer in blocks: the `count` files from number `first` on (0 is the first of all files).

    They all take what the file before gave. Their outputs, concatenated along `axis`, are what the layer gives.
    """

    name: str
    first: int = Field(ge=0)
    count: int = Field(ge=2)
    axis: int = Field(ge=-8, le=8)


class SegmentedPlacement(Part):
    """The whole model on the device in parts that run one after the other, each loaded, run and freed.

    `files` are ONNX in the order of computation. The first takes `image` uint8 N×H×W×C, each later one what the one
    before gave (`crossing`, float32), and the last gives `logits` float32 N×K. The files of a layer in `divided` are
    one segment together; every other file is a segment of its own. `bounds` are the cuts between segments, one fewer
    than segments. `crossing_bytes` is the sum of what crosses there for one image. `planned_peak_bytes` is the resident
    memory that the plan expects of the process (None: no plan made the division).
    """

    files: tuple[BundlePath, ...] = Field(min_length=1)
    divided: tuple[DividedLayer, ...] = ()
    bounds: tuple[str, ...]
    crossing_bytes: int = Field(ge=0)
    planned_peak_bytes: int | None = Field(default=None, ge=0)
    accuracy: Accuracy | None

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        end = 0
        for layer in self.divided:
            if layer.first < end or layer.first + layer.count > len(self.files):
                msg = f"the files of {layer.name!r} are not among the {len(self.files)} files, or belong to two layers"
                raise ValueError(msg)
            end = layer.first + layer.count
        segments = len(self.files) - sum(layer.count - 1 for layer in self.divided)
        if len(self.bounds) != segments - 1:
            msg = f"there are {segments} segments and {len(self.bounds)} cuts between them: give one cut fewer"
            raise ValueError(msg)
        return self

    @property
    def segments(self) -> tuple[tuple[tuple[str, ...], int], ...]:
        """The files of each segment, and the axis along which the outputs of several are concatenated."""
        layers = {layer.first: layer for layer in self.divided}
        segments: list[tuple[tuple[str, ...], int]] = []
        number = 0
        while number < len(self.files):
            layer = layers.get(number)
            count, axis = (1, 1) if layer is None else (layer.count, layer.axis)
            segments.append((self.files[number : number + count], axis))
            number += count
        return tuple(segments)


class ImageSetting(Compression):
    """A compression setting and its cost; bytes are of one image.

    `accuracy` and `against_whole` (the whole model first, on the same images) were measured on the data's part `part`.
    They are None if nothing was measured, and in bundles of older versions.
    """

    accuracy: Accuracy | None
    part: PartName | None = None
    against_whole: Paired | None = None
    payload_bytes_mean: Amount
    payload_bytes_p95: Amount


class TrainedOpponent(ImageSetting):
    """A network of the study that was trained on images of one setting, which trained splits are compared with.

    The network is in the bundle where the remote placement says that it is `trained` and recommends the same setting,
    and otherwise in the study alone. `after` is the cut after which its layers learned, None where all did, and
    `epochs` how many it was trained for. `accuracy` and `against_whole` are those after training.
    """

    after: str | None
    epochs: int = Field(ge=0)


class RemotePlacement(Part):
    """The whole model on the server, which gets compressed images. Its file is as in `LocalPlacement`.

    `trained` says that the network was trained on images of the recommended setting; its file is then not the whole
    model's, and `check` is what its comparison with torch gave (None where the file is the whole model's).

    Before it decodes images, the server refuses formats that are not in `accepted_formats`, and images longer than
    `max_image_bytes` or of more pixels than `max_image_pixels`.
    """

    file: BundlePath
    accepted_formats: tuple[ImageFormat, ...] = Field(min_length=1)
    recommended: ImageSetting
    trained: bool = False
    check: ExportCheck | None = None
    max_image_bytes: int = Field(default=2**21, ge=1)
    max_image_pixels: int = Field(default=2**24, ge=1)

    @model_validator(mode="after")
    def _check_recommended(self) -> Self:
        if self.recommended.format not in self.accepted_formats:
            msg = f"recommended is {self.recommended.format!r}, accepted are {', '.join(self.accepted_formats)}"
            raise ValueError(msg)
        return self


class CutPlacement(Part):
    """The model split at a cut.

    `head`: ONNX, input `image` uint8 N×H×W×C, output `latent` uint8 N×`latent_shape` (the quantised symbols).
    `tail`: ONNX, input `latent`, output `logits` float32 N×K. `codec` is what `Codec.save` wrote. All take any N.

    Payload bytes are of one image, header included. `logits_tolerance` is the largest absolute difference to the logits
    of the model it was exported from that the export allowed, given the same latent (one symbol that a rounding error
    moves makes a larger one). `head_mac_share` is the device's share of all multiply-accumulate operations, the
    encoder's included. `int8` says that the head computes in eight bits, and `int8_cost` what that costs; `accuracy`
    and payload bytes are then those of the int8 head, and `check` is of the float32 head that it was made from. `part`
    names the part of the data that `accuracy` and `against_whole` (the whole model first, on the same images) are of;
    `against_whole` is None for an int8 head. `budget` is what the bottleneck was made for. All three are None in
    bundles of an older version, which did not say.
    """

    name: str = Field(min_length=1)
    head: BundlePath
    tail: BundlePath
    codec: BundlePath
    latent_shape: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)
    accuracy: Accuracy | None
    part: PartName | None = None
    against_whole: Paired | None = None
    payload_bytes_mean: Amount
    payload_bytes_p95: Amount
    logits_tolerance: Amount
    head_mac_share: float = Field(ge=0)
    int8: bool = False
    int8_cost: Int8Cost | None = None
    check: ExportCheck | None = None
    budget: RecordedBudget | None = None


class BundleRecord(TableRecord):
    """manifest.json: every placement of one model, and every file with its hash.

    The bundle's `name` precedes the model names on the wire: NAME.CUT, NAME.remote. `model_fingerprint` is that of the
    study's model. Logits belong to the classes of `group`, in its order. `versions` are those of the libraries that
    made the bundle. An ONNX file may keep weights in another file of the bundle (`weights.bin`, which heads share), in
    its own directory or below. `check` is that of the whole model's file. `base_accuracy` is the study's, on its test
    part (for a class subset, the whole model's beside the first cut). Accuracies of placements are of the images on
    which their splits were measured. `opponents` are the study's networks that were trained on compressed images of
    these classes; there are none in bundles of older versions.
    """

    schema_name: ClassVar[str] = "isplit.bundle/1"
    file_name: ClassVar[str] = "manifest.json"
    rows_field: ClassVar[str] = "cuts"

    name: BundleName
    isplit_version: str
    versions: dict[str, str]
    model_fingerprint: str
    group: ClassGroup
    preprocessing: Preprocessing
    base_accuracy: Accuracy
    local: LocalPlacement | None
    remote: RemotePlacement | None
    cuts: tuple[CutPlacement, ...]
    segmented: SegmentedPlacement | None = None
    check: ExportCheck | None = None
    opponents: tuple[TrainedOpponent, ...] = ()
    files: dict[BundlePath, BundledFile]

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        names = [cut.name for cut in self.cuts]
        if len(set(names)) < len(names) or not RESERVED_CUTS.isdisjoint(names):
            msg = f"the cuts are {names}: names must differ, and be none of {', '.join(sorted(RESERVED_CUTS))}"
            raise ValueError(msg)
        if not (self.cuts or self.local or self.remote or self.segmented):
            msg = "there is no placement: give cuts, local, remote or segmented"
            raise ValueError(msg)
        wanted = {path for cut in self.cuts for path in (cut.head, cut.tail, cut.codec)}
        wanted |= {placement.file for placement in (self.local, self.remote) if placement}
        wanted |= set(self.segmented.files if self.segmented else ())
        if missing := sorted(wanted - set(self.files)):
            msg = f"files does not list {', '.join(missing)}"
            raise ValueError(msg)
        if self.file_name in self.files:
            msg = f"files lists {self.file_name}, which cannot hold its own hash"
            raise ValueError(msg)
        return self

    def cut(self, name: str) -> CutPlacement:
        """Return the placement at the cut of that name.

        Raises:
            KeyError: no cut of the bundle has it.

        """
        return named(self.cuts, name)
