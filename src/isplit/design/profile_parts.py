"""Export what `isplit profile STUDY` runs: the whole model, and some of its heads."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from isplit.design.onnx.staged import StagedModel, export_stages
from isplit.design.study import Study


@dataclass(frozen=True, kw_only=True)
class ProfileParts:
    """The files of a study that are timed: the whole model, and heads by cut."""

    staged: StagedModel
    whole: Path
    heads: dict[str, Path]

    def segments_of_operators(self, optimised: Path) -> dict[str, int]:
        """Return which segment between two cuts each operator belongs to, in the file that onnxruntime wrote.

        See `StagedModel.segments_of_operators`.
        """
        return self.staged.segments_of_operators(onnx.load(str(optimised), load_external_data=False))


def export_profile_parts(study: Study, directory: Path, cuts: Sequence[str], *, heads: Sequence[str]) -> ProfileParts:
    """Write the whole model and some of its heads to a directory, as ONNX files without a bottleneck.

    Args:
        study: The study.
        directory: An empty directory.
        cuts: Names of cuts with one crossing tensor, in the order of computation.
        heads: Those of them that get a file of their own.

    Raises:
        ModelError: the model, or one of the heads, has no ONNX.

    """
    staged = export_stages(study.graph, cuts, study.model.preprocessing)
    whole = directory / "whole.onnx"
    staged.save_head(None, whole)
    paths = {cut: directory / f"head-{number}.onnx" for number, cut in enumerate(heads)}
    for cut, path in paths.items():
        staged.save_head(cut, path)
    return ProfileParts(staged=staged, whole=whole, heads=paths)
