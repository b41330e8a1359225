"""The trained opponent of splits: the model, trained on images that the device compresses."""

import warnings
from pathlib import Path
from typing import ClassVar

from isplit.errors import DamagedSplitWarning, StudyError
from isplit.records.base import Amount, ComputedOn, Count, Part, Record, Share
from isplit.records.compression import Compression
from isplit.records.splits import RemoteImage, SplitFile
from isplit.records.study import PartName

REMOTES = "remotes"
"""The folder of a study that holds networks trained on compressed images, each in a folder of its own."""


class RemoteEpoch(Part):
    """One pass over the training images; epoch 0 is the network as it was before.

    `losses` are means over the epoch by name; `select_accuracy` is on the compressed images of the select part.
    """

    epoch: Count
    losses: dict[str, float]
    select_accuracy: Share
    seconds: Amount


class TrainedRemote(Record):
    """remote.json: the model after training on images of one compression, and what that brought.

    `after` is the cut after which the layers learned; None where all did. `best_epoch` is the epoch whose weights are
    kept, 0 for those before training. `before` is the network as it was and `measurement` the trained one, both on the
    same compressed images of the test part; each is paired with the whole model on the uncompressed ones. `weights` is
    the file of the trained network's tensors beside the record.
    """

    schema_name: ClassVar[str] = "isplit.remote/1"
    file_name: ClassVar[str] = "remote.json"
    remedy: ClassVar[str] = "delete the folder {directory}; `isplit fit STUDY --remote` trains the network again"

    isplit_version: str
    versions: dict[str, str]
    device: ComputedOn = None
    model: str
    group: str
    compression: Compression
    after: str | None
    part: PartName
    images: Count
    epochs: Count
    best_epoch: Count
    seconds: Amount
    settings: dict[str, float | int | str | bool | None]
    curve: tuple[RemoteEpoch, ...]
    before: RemoteImage
    measurement: RemoteImage
    weights: SplitFile


def remote_records(study: Path) -> tuple[TrainedRemote, ...]:
    """Return the records of a study's trained opponents; one that cannot be read is left out with a warning.

    Warns:
        DamagedSplitWarning: for each record that cannot be read, with the reason and what to do.

    """
    records: list[TrainedRemote] = []
    for path in sorted((study / REMOTES).glob(f"*/{TrainedRemote.file_name}")):
        try:
            records.append(TrainedRemote.load(path.parent))
        except StudyError as error:
            warnings.warn(f"a trained opponent was left out: {error}", DamagedSplitWarning, stacklevel=2)
    return tuple(records)
