"""Splits measured at once are the same as each of them run by hand, image after image, through real bytes."""

import numpy as np
import pytest
import torch

from isplit.codec.image import preprocess
from isplit.codec.quantise import Quantiser
from isplit.design.bottleneck.coding import CodecOwner, LatentQuantiser
from isplit.design.bottleneck.spec import build_bottleneck
from isplit.design.closed_form.build import closed_forms
from isplit.design.graph import split
from isplit.design.inputs.batches import normalise
from isplit.design.measure.splits import evaluate_splits, measure
from isplit.design.settings import PredictSettings
from isplit.design.splits import BuiltSplit
from isplit.design.study import Study, open_study
from isplit.records import BottleneckSpec, Budget, Paired

SETTINGS = PredictSettings(statistics_images=16, images=None, remote_images=0, precision="fp32")


@pytest.fixture(scope="module", params=[None, "bars,rows"])
def view(request: pytest.FixtureRequest, opened: Study):
    return opened.view(request.param)


@pytest.fixture(scope="module")
def splits(opened: Study, view) -> list[BuiltSplit]:
    """Two cuts at two budgets in closed form, and one that rounds so coarsely that it gets images wrong."""
    budgets = [Budget(payload_bytes=40), Budget(element_ratio=4)]
    closed = closed_forms(view, budgets, opened.cuts(("relu1", "pool2")), SETTINGS)
    (cut,) = opened.cuts(("pool1",))
    spec = BottleneckSpec(design="identity", shape=cut.shape, channel_axis=1)
    coarse = build_bottleneck(spec, Budget(payload_bytes=64))
    symbols = torch.arange(3, dtype=torch.uint8).repeat(1, 8, 22)[:, :, :64]
    codec = CodecOwner("f" * 64, cut.name).make_codec(LatentQuantiser(Quantiser.common(1.5, levels=3)), symbols)
    return [*(form.split for form in closed), BuiltSplit(cut, coarse, codec)]


def by_hand(opened: Study, view, built: BuiltSplit, index: int) -> tuple[int, int, int]:
    """Answer one image: head, encoder, quantiser and coder in numpy, bytes, and back. With the payload's length."""
    pixels = preprocess(opened.data.image(index), opened.model.preprocessing)
    image = normalise(torch.from_numpy(pixels[None]), opened.model.preprocessing)
    sides = split(opened.graph, built.cut.name)
    with torch.no_grad():
        latent = built.bottleneck.encode(sides.head(image))[0].numpy()
        payload = built.codec.encode(latent)
        back = built.codec.decode(payload)
        logits = view.classes(sides.tail(built.bottleneck.decode(torch.from_numpy(back)[None])))
        whole = view.classes(opened.graph.module(image))
    return int(logits.argmax()), len(payload), int(whole.argmax())


def test_same_as_one_image_after_the_other(opened: Study, view, splits: list[BuiltSplit]) -> None:
    """Answers, payload lengths, labels and the whole model's answers."""
    images = view.images("test")
    evaluations = evaluate_splits(view, splits, images=images, batch_size=7)

    assert splits == [evaluation.split for evaluation in evaluations]
    for built, evaluation in zip(splits, evaluations, strict=True):
        answers, lengths, whole = zip(*(by_hand(opened, view, built, int(i)) for i in images), strict=True)
        assert view.classes.label_map[opened.data.labels[images]].tolist() == evaluation.labels.tolist()
        assert list(answers) == evaluation.answers.tolist()
        assert list(lengths) == evaluation.payload_bytes.tolist()
        assert list(whole) == evaluation.whole.tolist()


def test_divergence_by_hand(opened: Study, view, splits: list[BuiltSplit]) -> None:
    """Sum of p log(p / q) over the classes, p the whole model's and q the split's, in the mean over images."""
    images = view.images("test", limit=5)
    built = splits[-1]
    (evaluation,) = evaluate_splits(view, [built], images=images)

    sides = split(opened.graph, built.cut.name)
    total = 0.0
    for index in images:
        pixels = preprocess(opened.data.image(int(index)), opened.model.preprocessing)
        image = normalise(torch.from_numpy(pixels[None]), opened.model.preprocessing)
        with torch.no_grad():
            symbols = built.quantiser.symbols(built.bottleneck.encode(sides.head(image)))
            decoded = built.bottleneck.decode(built.quantiser.values(symbols))
            p = view.classes(opened.graph.module(image)).double().softmax(1)[0].numpy()
            q = view.classes(sides.tail(decoded)).double().softmax(1)[0].numpy()
        total += float((p * np.log(p / q)).sum())
    assert 0 < total / len(images) == pytest.approx(evaluation.divergence_nats, rel=1e-3)


def test_measurement_by_hand(opened: Study, view, splits: list[BuiltSplit]) -> None:
    """Accuracy, per class, paired with the whole, bytes, MACs and clipping are those of the answers."""
    images = view.images("test")
    evaluation = evaluate_splits(view, splits, images=images)[-1]
    measured = measure(view, evaluation, part="test")

    right, whole = evaluation.answers == evaluation.labels, evaluation.whole == evaluation.labels
    assert (int(right.sum()), len(images)) == (measured.accuracy.correct, measured.accuracy.images)
    assert int(whole.sum()) == measured.whole.correct
    assert Paired.from_answers(whole, right) == measured.against_whole
    assert set(view.group.classes) == set(measured.per_class)
    assert measured.accuracy.correct == sum(accuracy.correct for accuracy in measured.per_class.values())
    assert {8} == {accuracy.images for accuracy in measured.per_class.values()}
    assert evaluation.divergence_nats == measured.divergence_nats
    payload = evaluation.payload_bytes
    assert (payload.mean(), payload.max()) == (measured.payload_bytes.mean, measured.payload_bytes.max)
    assert (8 * 8 * 8, 0) == (measured.elements, measured.encoder_macs)
    assert splits[-1].cut.head_macs / opened.graph_record.macs == pytest.approx(measured.head_mac_share)
    assert 0 < measured.clipped_share < 1


def test_own_head_and_tail_are_used(opened: Study, splits: list[BuiltSplit]) -> None:
    """A split that was trained brings its own sides; the shared ones stay out of it."""
    view = opened.view()
    images = view.images("test", limit=6)
    plain = splits[0]

    class Never(torch.nn.Module):
        def forward(self, tensor: torch.Tensor) -> torch.Tensor:
            return torch.tensor([[0.0, 0.0, 9.0]]).expand(len(tensor), 3)

    class Twice(torch.nn.Module):
        def __init__(self, head: torch.nn.Module) -> None:
            super().__init__()
            self.head = head

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.head(images) * 1000

    own_tail = BuiltSplit(plain.cut, plain.bottleneck, plain.codec, tail=Never())
    own_head = BuiltSplit(
        plain.cut, plain.bottleneck, plain.codec, head=Twice(split(opened.graph, plain.cut.name).head)
    )
    with_tail, with_head, without = evaluate_splits(view, [own_tail, own_head, plain], images=images)

    assert {2} == set(with_tail.answers.tolist())
    assert with_head.clipped_share > without.clipped_share


@pytest.mark.parametrize("fails", [False, True])
def test_no_trace(opened: Study, splits: list[BuiltSplit], fails: bool) -> None:
    """The model's modes and gradients are as before, also when it fails half-way."""
    module = opened.graph.module
    before = [(part.training, len(part._forward_hooks)) for part in module.modules()]
    wants = [parameter.requires_grad for parameter in module.parameters()]

    def stop(what: str, done: int, total: int) -> None:
        if fails:
            raise KeyboardInterrupt

    try:
        evaluate_splits(opened.view(), splits[:1], images=np.arange(4), progress=stop)
    except KeyboardInterrupt:
        assert fails
    assert before == [(part.training, len(part._forward_hooks)) for part in module.modules()]
    assert wants == [parameter.requires_grad for parameter in module.parameters()]


def test_budget_is_kept_by_real_bytes(opened: Study) -> None:
    """The mean payload of the images that the tables are from is at most the budget, and not far below."""
    view = opened.view()
    budgets = [Budget(payload_bytes=count) for count in (30, 40, 60)]
    closed = closed_forms(view, budgets, opened.cuts(("relu1", "relu2")), SETTINGS)
    every = view.images("fit")
    others = every[16:] if len(every) >= 32 else every  # as `closed_forms` chooses them
    evaluations = evaluate_splits(view, [form.split for form in closed], images=others[:16])

    for form, evaluation in zip(closed, evaluations, strict=True):
        budget, payload = form.budget.payload_bytes, evaluation.payload_bytes
        assert budget is not None
        assert payload.mean() <= budget
        # With tables of so few images, the cross-validation leaves room for others.
        assert payload.mean() > 0.6 * budget or form.split.codec.quantiser.levels == 256


@pytest.mark.parametrize(("weighted", "cuts"), [(True, ()), (False, ("stage1.1.relu2", "stage2.1.relu2"))])
def test_full_rank_at_eight_bits_is_as_accurate_as_the_model(demo, weighted: bool, cuts: tuple[str, ...]) -> None:
    """The decoder's zero-loss case on all images of the digits: within 0.3 points at every third cut of the demo's.

    Plain PCA is held to it at the two cuts at which rounding costs most.
    """
    directory, _ = demo
    opened = open_study(directory / "isplit-demo" / "study")
    # Without entropy coding: lengths of payloads are not looked at.
    settings = PredictSettings(statistics_images=80, remote_images=0, precision="fp32", weighted=weighted, coder="raw")
    some = opened.cuts(cuts)[:: 1 if cuts else 3]
    closed = closed_forms(opened.view(), [Budget(element_ratio=1)], some, settings)
    images = np.arange(len(opened.data))
    for evaluation in evaluate_splits(opened.view(), [form.split for form in closed], images=images):
        whole = (evaluation.whole == evaluation.labels).mean()
        assert 256 == evaluation.split.codec.quantiser.levels
        assert abs((evaluation.answers == evaluation.labels).mean() - whole) <= 0.003, evaluation.split.cut.name


def test_bf16_is_the_model_s_alone(opened: Study, view, splits: list[BuiltSplit], monkeypatch) -> None:
    """In bf16 head and tail round, so that logits move a little; every bottleneck sees and computes float32."""
    seen: list[torch.dtype] = []
    for built in splits:
        encode = built.bottleneck.encode

        def recorded(tensor: torch.Tensor, encode=encode) -> torch.Tensor:
            latents = encode(tensor)
            seen.extend([tensor.dtype, latents.dtype])
            return latents

        monkeypatch.setattr(built.bottleneck, "encode", recorded)
    images = view.images("test")
    exact = evaluate_splits(view, splits, images=images)
    rounded = evaluate_splits(view, splits, images=images, precision="bf16")

    assert {torch.float32} == set(seen)
    assert "bf16" == measure(view, rounded[0], part="test").precision
    assert "fp32" == measure(view, exact[0], part="test").precision
    divergences = [[evaluation.divergence_nats for evaluation in evaluations] for evaluations in (exact, rounded)]
    assert divergences[0] != divergences[1]
    assert divergences[1] == pytest.approx(divergences[0], rel=0.2, abs=2e-3)
