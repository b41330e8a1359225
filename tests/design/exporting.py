"""Studies with closed-form splits, small enough to export in a second, and a bundle made from one."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from isplit.design.analyze import analyze
from isplit.design.closed_form_tuning import ClosedFormTuning
from isplit.design.export import export
from isplit.design.export_settings import ExportSettings
from isplit.design.graph import split
from isplit.design.inputs.data import open_data
from isplit.design.inputs.models import load_model
from isplit.design.onnx.compare import load_pixels
from isplit.design.predict import predict
from isplit.design.settings import AnalyzeSettings, PredictSettings, SplitFilter
from isplit.design.splits import BuiltSplit, choose_split
from isplit.design.study import Study, open_study
from isplit.records import Budget, BundleRecord
from isplit.runtime.bundle import Bundle

CUTS = ("pool1", "pool2")
GROUPS = ("bars,rows", "bars,other=dots+rows")
BUDGET = Budget(payload_bytes=60)


def make_study(model, data, directory, *, cuts, classes=(), weights=None, groups=(None,), remote_images=12):
    """Analyse a model and build closed-form splits, of one budget, for each group of classes."""
    settings = AnalyzeSettings(images=12, test_images=12, precision="fp32")
    loaded = load_model(model, weights=None if weights is None else str(weights))
    analyze(loaded, open_data(str(data)), directory, classes=classes, settings=settings)
    study = open_study(directory, model=model)
    settings = PredictSettings(statistics_images=24, images=12, remote_images=remote_images, precision="fp32")
    for group in groups:
        predict(study, [BUDGET], cuts=cuts, group=group, settings=settings)
    return study


@pytest.fixture(scope="session")
def tiny_study(tiny_model_file, tiny_data, tiny_weights, tmp_path_factory) -> Study:
    """The small trained network, split behind each of its pools, for all classes and two subsets.

    At the first pool the latents are joint ones of all positions, at the second each position has its own.
    """
    torch.set_num_threads(1)
    directory = tmp_path_factory.mktemp("studies") / "tiny"
    model = f"{tiny_model_file}:build"
    groups = (None, *GROUPS)
    study = make_study(model, tiny_data, directory, cuts=CUTS[1:], classes=GROUPS, weights=tiny_weights, groups=groups)
    tuning = ClosedFormTuning(held_out_images=4)
    settings = PredictSettings(statistics_images=12, images=12, remote_images=12, precision="fp32", tuning=tuning)
    for group in groups:
        predict(study, [BUDGET], cuts=CUTS[:1], group=group, settings=settings)
    joint = [choose_split(study.view(), cut, split_filter=SplitFilter()).record.bottleneck.joint for cut in CUTS]
    assert joint[0] > 0 == joint[1]
    return study


@dataclass(frozen=True)
class Exported:
    """A bundle as the runtime opens it, what it was made from, and 24 images as pixels."""

    study: Study
    record: BundleRecord
    bundle: Bundle
    pixels: np.ndarray


@pytest.fixture(scope="session")
def exported(tiny_study, tmp_path_factory) -> Exported:
    """Both cuts and the whole model in one bundle, with a Triton repository."""
    out = tmp_path_factory.mktemp("bundles") / "tiny net"
    record = export(tiny_study, CUTS, out, settings=ExportSettings(triton=True))
    pixels = load_pixels(tiny_study.view(), "fit", limit=24)
    return Exported(tiny_study, record, Bundle.open(out), pixels)


@pytest.fixture(scope="session")
def answer_in_torch():
    """Return a function that gives torch's latent (None: the whole model) and logits of one image of a study."""

    @torch.no_grad()
    def answer(study, pixels, cut, group=None):
        preprocessing, view = study.record.preprocessing, study.view(group)
        mean, std = (torch.tensor(values).reshape(-1, 1, 1) for values in (preprocessing.mean, preprocessing.std))
        image = (torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255 - mean) / std
        model = study.model.module.eval()
        if cut is None:
            return None, view.classes(model(image))[0].numpy()
        built: BuiltSplit = choose_split(view, cut, split_filter=SplitFilter()).built
        sides = split(study.graph, cut)
        symbols = built.quantiser.symbols(built.bottleneck.encode(sides.head(image)))
        logits = sides.tail(built.bottleneck.decode(built.quantiser.values(symbols)))
        return symbols[0].numpy(), view.classes(logits)[0].numpy()

    return answer


@pytest.fixture(scope="session")
def run_onnx():
    """Return a function that runs an ONNX file, with one input and one output, on an array."""

    def run(path: Path, array):
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (output,) = session.run(None, {session.get_inputs()[0].name: array})
        return output

    return run
