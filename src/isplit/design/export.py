"""Export splits of a study to a bundle that a device and a server run without torch.

splits ─> head.onnx, tail.onnx, codec.npz ─┐
model ──> whole.onnx ──────────────────────┼─> run in onnxruntime beside torch ─> manifest.json ─> renamed to OUT
weights of them all, each once ─> weights.bin ┘            └─> other answers: no bundle
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from isplit.design.export_settings import ExportSettings
from isplit.design.fit_remote import load_remote
from isplit.design.onnx.compare import TorchSplit, answer_whole, check_split, check_whole, load_pixels
from isplit.design.onnx.files import WeightsFile, export_versions, save_onnx, to_onnx
from isplit.design.onnx.int8 import Int8Measured, measure_int8, quantise_head
from isplit.design.onnx.modules import HeadModel, TailModel, WholeModel
from isplit.design.onnx.output_directory import (
    bundle_name,
    check_place,
    checked_name,
    file_stem,
    new_bundle_directory,
)
from isplit.design.onnx.recommended_image import (
    find_remote_network,
    remote_placement,
    trained_opponents,
    trained_placement,
)
from isplit.design.onnx.triton import TRITON, write_tail
from isplit.design.settings import SplitFilter
from isplit.design.splits import ChosenSplit, choose_split
from isplit.design.study import Study, StudyView, open_study
from isplit.errors import InputError
from isplit.progress import Progress, silent
from isplit.records import (
    BundledFile,
    BundleRecord,
    CutPlacement,
    LocalPlacement,
    RemotePlacement,
    TrainedRemote,
)

WHOLE = "whole.onnx"
REMOTE = "remote.onnx"
"""The network that was trained on compressed images."""


def export(
    study: Study | str | Path,
    cuts: str | Sequence[str],
    out: str | Path,
    *,
    group: str | None = None,
    split_filter: SplitFilter | None = None,
    settings: ExportSettings | None = None,
    progress: Progress = silent,
) -> BundleRecord:
    """Write a bundle with the splits of some cuts, and return its manifest.

    Every file is run in onnxruntime on validation images first. Where latents, logits or answers differ from torch's
    by more than is stated, nothing is written; nothing is ever half-written, and no other directory overwritten.

    Args:
        study: A study, or its directory.
        cuts: At least one. Of each, the trained split is taken if there is one, else the closed form of `predict`.
        out: The directory to write.
        group: A class subset of the study, whose logits the files give; None for all classes.
        split_filter: Selects the split, where a cut has several.
        settings: What else goes in, and how it is checked.
        progress: Called as work goes on.

    Raises:
        InputError: an unknown cut or subset, no split or several, or a place that is taken.
        ModelError: a part of the model has no ONNX.
        ExportError: the files answer otherwise than torch.

    """
    settings, out = settings or ExportSettings(), Path(out)
    cuts = (cuts,) if isinstance(cuts, str) else cuts
    if not cuts:
        msg = "give at least one cut: `isplit predict` says how accurate each is"
        raise InputError(msg)
    check_place(out, overwrite=settings.overwrite)
    name = checked_name(settings.name or bundle_name(out))
    view = open_study(study).view(group)
    chosen = [choose_split(view, cut, split_filter=split_filter or SplitFilter()) for cut in dict.fromkeys(cuts)]
    trained = find_remote_network(view, settings.remote_network) if settings.remote_network else None
    with (
        new_bundle_directory(out, overwrite=settings.overwrite) as directory,
        TemporaryDirectory(prefix="isplit-export-") as scratch,
    ):
        exporter = _Exporter(view, directory, Path(scratch), settings, name=name, trained=trained)
        return exporter.run(chosen, progress)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Written:
    """A split's files: relative paths, the float32 head that is compared with torch, and what int8 costs."""

    head: str
    tail: str
    codec: str
    compared_head: Path
    int8: Int8Measured | None


class _Exporter:
    """One bundle in the making: its files in `directory`, what will not stay in `scratch`.

    `trained` is the network that the server gets for compressed images; None where that is the whole model.
    """

    def __init__(
        self,
        view: StudyView,
        directory: Path,
        scratch: Path,
        settings: ExportSettings,
        *,
        name: str,
        trained: TrainedRemote | None = None,
    ) -> None:
        self._view, self._settings, self._name, self._trained = view, settings, name, trained
        self._directory, self._scratch = directory, scratch
        self._preprocessing = view.preprocessing
        self._outputs = view.study.record.model.num_outputs
        self._pixels = load_pixels(view, "select", limit=settings.images)
        height, width = self._preprocessing.image_size
        self._images = torch.zeros((2, height, width, self._preprocessing.channels), dtype=torch.uint8)
        self._whole = answer_whole(view, self._pixels)
        # Absolute, and the same for all files.
        self._tolerance = settings.tolerance * max(1.0, float(np.abs(self._whole.logits).max()))

    def run(self, chosen: Sequence[ChosenSplit], progress: Progress) -> BundleRecord:
        """Write, compare and describe everything."""
        steps = len(chosen) + 1
        written: list[_Written] = []
        with WeightsFile(self._directory) as weights:
            for number, split in enumerate(chosen):
                progress("export", number, steps)
                written.append(self._write_split(split, weights))
            progress("export", len(chosen), steps)
            if self._has_whole:
                self._write_whole(self._view.graph.module, WHOLE, weights)
            if self._trained is not None:
                self._write_whole(self._remote_network, REMOTE, weights)
            progress("export", steps, steps)
        # Only now are the weights on the disk, and the models can be loaded.
        cuts: list[CutPlacement] = []
        for number, (split, files) in enumerate(zip(chosen, written, strict=True)):
            progress("compare with torch", number, steps)
            cuts.append(self._compared(split, files))
        progress("compare with torch", len(chosen), steps)
        record = self._manifest(chosen, cuts)
        progress("compare with torch", steps, steps)
        record.save(self._directory)
        return record

    def _write_split(self, split: ChosenSplit, weights: WeightsFile) -> _Written:
        bottleneck, stem = split.built.bottleneck, file_stem(split.built.cut.name)
        head = to_onnx(
            HeadModel(split.head, split.built, preprocessing=self._preprocessing),
            self._images,
            source="image",
            target="latent",
        )
        tail = to_onnx(
            TailModel(
                split.tail, split.built, group=self._view.classes, outputs=self._view.study.record.model.num_outputs
            ),
            torch.zeros((2, *bottleneck.latent_shape), dtype=torch.uint8),
            source="latent",
            target="logits",
        )
        files = {part: f"{stem}.{part}.{kind}" for part, kind in (("head", "onnx"), ("tail", "onnx"), ("codec", "npz"))}
        if self._settings.triton:
            name = f"{self._name}.{split.built.cut.name}"
            write_tail(self._directory / TRITON, tail, name=name, latent_shape=bottleneck.latent_shape)
        compared, int8 = self._directory / files["head"], None
        if self._settings.int8:
            compared = self._scratch / files["head"]
            save_onnx(head, compared)
            head = quantise_head(compared, self._calibration)
            int8 = measure_int8(self._view, split, head, compared, settings=self._settings)
        for model, part in ((head, "head"), (tail, "tail")):
            weights.add(model)
            save_onnx(model, self._directory / files[part])
        split.built.codec.save(self._directory / files["codec"])
        return _Written(**files, compared_head=compared, int8=int8)

    @cached_property
    def _calibration(self) -> NDArray[np.uint8]:
        return load_pixels(self._view, "fit", limit=self._settings.calibration_images)

    @property
    def _has_whole(self) -> bool:
        """Whether the model itself is in the bundle."""
        return self._settings.local or (self._settings.remote and self._trained is None)

    @cached_property
    def _remote_network(self) -> nn.Module:
        assert self._trained is not None
        network = load_remote(self._view.study, self._trained)
        return network.tail if network.head is None else nn.Sequential(network.head, network.tail)

    def _write_whole(self, network: nn.Module, file: str, weights: WeightsFile) -> None:
        module = WholeModel(
            network,
            preprocessing=self._preprocessing,
            group=self._view.classes,
            outputs=self._outputs,
        )
        model = to_onnx(module, self._images, source="image", target="logits")
        weights.add(model)
        save_onnx(model, self._directory / file)

    def _compared(self, split: ChosenSplit, files: _Written) -> CutPlacement:
        """Compare a split's files with torch, and describe them."""
        reference = TorchSplit(self._view, split)
        check = check_split(
            files.compared_head,
            self._directory / files.tail,
            self._pixels,
            reference=reference,
            tolerance=self._tolerance,
        )
        measured, int8 = split.record.measurement, files.int8
        payload = int8.payload_bytes if int8 else measured.payload_bytes
        return CutPlacement(
            name=split.built.cut.name,
            head=files.head,
            tail=files.tail,
            codec=files.codec,
            latent_shape=split.built.bottleneck.latent_shape,
            accuracy=int8.cost.accuracy if int8 else measured.accuracy,
            part="select" if int8 else measured.part,
            against_whole=None if int8 else measured.against_whole,
            payload_bytes_mean=payload.mean,
            payload_bytes_p95=payload.p95,
            logits_tolerance=self._tolerance,
            head_mac_share=measured.head_mac_share,
            int8=int8 is not None,
            int8_cost=int8.cost if int8 else None,
            check=check,
            budget=split.record.budget,
        )

    def _manifest(self, chosen: Sequence[ChosenSplit], cuts: Sequence[CutPlacement]) -> BundleRecord:
        view, settings = self._view, self._settings
        measured = chosen[0].record.measurement
        check = None
        if self._has_whole:
            check = check_whole(self._directory / WHOLE, self._pixels, self._whole, tolerance=self._tolerance)
        paths = sorted(path for path in self._directory.rglob("*") if path.is_file())
        return BundleRecord(
            name=self._name,
            isplit_version=metadata.version("isplit"),
            versions=view.study.versions | export_versions(),
            model_fingerprint=view.fingerprint,
            group=view.group,
            preprocessing=self._preprocessing,
            base_accuracy=view.study.record.base_accuracy if view.is_default else measured.whole,
            local=LocalPlacement(file=WHOLE, accuracy=measured.whole, part=measured.part) if settings.local else None,
            remote=self._remote() if settings.remote else None,
            cuts=tuple(cuts),
            check=check,
            opponents=trained_opponents(view),
            files={path.relative_to(self._directory).as_posix(): BundledFile.of(path) for path in paths},
        )

    def _remote(self) -> RemotePlacement:
        """Describe what the server does with compressed images."""
        if self._trained is None:
            return remote_placement(self._view, WHOLE, pixels=self._pixels)
        answers = answer_whole(self._view, self._pixels, network=self._remote_network)
        check = check_whole(self._directory / REMOTE, self._pixels, answers, tolerance=self._tolerance)
        return trained_placement(self._trained, REMOTE).model_copy(update={"check": check})
