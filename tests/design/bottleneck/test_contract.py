"""What every bottleneck promises, whatever its design and whatever crosses."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from isplit.codec.codec import Codec
from isplit.codec.quantise import Quantiser
from isplit.design.bottleneck.base import Bottleneck
from isplit.design.bottleneck.coding import CodecOwner, LatentQuantiser
from isplit.design.bottleneck.patches import PatchLayout
from isplit.design.bottleneck.sides import encoder_side, measure_work
from isplit.design.bottleneck.spec import build_bottleneck
from isplit.design.bottleneck.undercomplete import undercomplete_widths
from isplit.design.splits import BuiltSplit, read_split, save_split
from isplit.errors import StudyError
from isplit.records import (
    Accuracy,
    BottleneckSpec,
    Budget,
    Design,
    Measurement,
    Paired,
    PayloadBytes,
    SplitRecord,
)
from tests.design.conftest import make_cut

MODEL = "f" * 64
BATCH = 5
BUDGET = Budget(payload_bytes=64)


def spec_of(design: Design, shape: tuple[int, ...], axis: int, **fields: object) -> BottleneckSpec:
    if design == "undercomplete":
        fields["widths"] = undercomplete_widths(PatchLayout(shape, axis), elements=max(1, int(np.prod(shape)) // 4))
    return BottleneckSpec.model_validate({"design": design, "shape": shape, "channel_axis": axis, **fields})


def specs() -> dict[str, BottleneckSpec]:
    by_name = {
        "linear map": spec_of("linear", (6, 4, 4), 1, ranks=(3,)),
        "linear map, channels last": spec_of("linear", (4, 6, 5), -1, ranks=(2,)),
        "linear patches": spec_of("linear", (3, 8, 8), 1, patch=4, ranks=(7,)),
        "linear patches that do not fit": spec_of("linear", (3, 7, 5), 1, patch=2, ranks=(4,)),
        "linear patches that do not fit, channels last": spec_of("linear", (5, 7, 3), -1, patch=4, ranks=(9,)),
        "linear of one position": spec_of("linear", (8, 1, 1), 1, ranks=(1,)),
        "linear tokens": spec_of("linear", (9, 6), -1, ranks=(4,)),
        "linear tokens, class token": spec_of("linear", (10, 6), -1, prefix=1, ranks=(5, 2)),
        "linear tokens, more in front than fit a row": spec_of("linear", (7, 6), -1, prefix=3, ranks=(5, 2)),
        "linear tokens, class token only": spec_of("linear", (10, 6), -1, prefix=1, ranks=(5, 0)),
        "linear tokens, grid only": spec_of("linear", (10, 6), -1, prefix=1, ranks=(0, 3)),
        "linear patches, joint": spec_of("linear", (3, 8, 8), 1, patch=4, ranks=(7,), joint=9),
        "linear map, channels last, joint": spec_of("linear", (4, 6, 5), -1, ranks=(2,), joint=3),
        "linear tokens, class token, joint": spec_of("linear", (10, 6), -1, prefix=1, ranks=(5, 2), joint=6),
        "linear tokens, class token only, joint": spec_of("linear", (10, 6), -1, prefix=1, ranks=(5, 0), joint=4),
        "linear tokens, grid only, joint": spec_of("linear", (10, 6), -1, prefix=1, ranks=(0, 3), joint=5),
        "pca map": spec_of("pca", (6, 4, 4), 1, patch=2, ranks=(3,)),
        "pca tokens": spec_of("pca", (10, 6), -1, prefix=1, ranks=(2, 1)),
        "identity map": spec_of("identity", (6, 3, 5), 1),
        "identity map, channels last": spec_of("identity", (3, 5, 6), -1),
        "identity tokens": spec_of("identity", (9, 6), -1),
        "undercomplete tokens": spec_of("undercomplete", (9, 16), -1),
        "undercomplete map, channels last": spec_of("undercomplete", (9, 7, 16), -1),
        "undercomplete map 4x9": spec_of("undercomplete", (16, 4, 9), 1),
    }
    for side in range(1, 10):
        by_name[f"undercomplete map {side}x{side}"] = spec_of("undercomplete", (16, side, side), 1)
    return by_name


SPECS = specs()


@dataclass
class Case:
    """A bottleneck with weights, a quantiser for its latents, and something that crosses."""

    spec: BottleneckSpec
    bottleneck: Bottleneck
    quantiser: LatentQuantiser
    tensor: torch.Tensor

    @property
    def codec(self) -> Codec:
        with torch.no_grad():
            symbols = self.quantiser.symbols(self.bottleneck.encode(self.tensor))
        return CodecOwner(MODEL, "layer.1").make_codec(self.quantiser, symbols)

    def received(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return what the server decodes, straight through the rounding for the gradient."""
        return self.bottleneck.decode(self.quantiser.straight_through(self.bottleneck.encode(tensor)))


@pytest.fixture(params=SPECS, ids=list(SPECS))
def case(request: pytest.FixtureRequest) -> Case:
    spec = SPECS[request.param]
    bottleneck = build_bottleneck(spec, BUDGET)
    with torch.no_grad():
        for name, value in bottleneck.state_dict().items():
            if value.is_floating_point():
                value.copy_(
                    torch.rand(value.shape) + 0.5 if "scale" in name or "var" in name else torch.randn_like(value)
                )
    bottleneck.eval()
    tensor = torch.randn(BATCH, *spec.shape) * 2 + 0.3
    with torch.no_grad():
        latents = bottleneck.encode(tensor)
    if spec.design in ("linear", "pca"):
        # A tenth of the range beyond the quantiser's, so that clipping is part of every test.
        quantiser = Quantiser.common(max(float(latents.abs().max()), 1e-3) / 14.3, levels=26)
    else:
        flat = latents.movedim(1, 0).flatten(1).double()
        low, high = flat.amin(1), flat.amax(1) * 0.9
        high = torch.maximum(high, low + 0.1)
        quantiser = Quantiser.per_channel(low=low.numpy(), high=high.numpy(), levels=16)
    return Case(spec, bottleneck, LatentQuantiser(quantiser, bottleneck.channel_axis), tensor)


class TestBottleneck:
    """Run for every design, on maps, on channels-last maps, and on tokens."""

    @torch.no_grad()
    def test_shapes(self, case: Case) -> None:
        """A latent of `latent_shape` for each image, and back to what crossed, in float32."""
        latents = case.bottleneck.encode(case.tensor)
        decoded = case.bottleneck.decode(latents)

        assert (BATCH, *case.bottleneck.latent_shape) == latents.shape
        assert case.tensor.shape == decoded.shape == case.bottleneck(case.tensor).shape
        assert torch.float32 == latents.dtype == decoded.dtype

    @torch.no_grad()
    def test_images_do_not_mix(self, case: Case) -> None:
        """An image's latent is the same alone as in a batch."""
        together = case.bottleneck.encode(case.tensor)
        alone = torch.cat([case.bottleneck.encode(image[None]) for image in case.tensor])

        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5 * float(together.abs().max()))

    @torch.no_grad()
    def test_memory_layout_does_not_matter(self, case: Case) -> None:
        """What crosses may lie in memory in any order."""
        turned = case.tensor.transpose(1, -1).contiguous().transpose(1, -1)
        assert torch.equal(turned, case.tensor)

        latents, expected = case.bottleneck.encode(turned), case.bottleneck.encode(case.tensor)
        torch.testing.assert_close(latents, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))

    @torch.no_grad()
    def test_symbols_are_those_of_the_codec(self, case: Case) -> None:
        """Bit for bit what numpy computes on the device and on the server, clipping included."""
        bottleneck = case.bottleneck
        latents = bottleneck.encode(case.tensor)
        symbols = case.quantiser.symbols(latents)
        values = case.quantiser.values(symbols)
        quantiser, axis = case.quantiser.quantiser, bottleneck.channel_axis
        expected = [quantiser.quantise(image, channel_axis=axis) for image in latents.numpy()]

        assert torch.uint8 == symbols.dtype
        np.testing.assert_array_equal(np.stack(expected), symbols.numpy())
        back = np.stack([quantiser.dequantise(image, channel_axis=axis) for image in expected])
        np.testing.assert_array_equal(back, values.numpy())
        clipped = sum(quantiser.count_clipped(image, channel_axis=axis) for image in latents.numpy())
        assert clipped == case.quantiser.count_clipped(latents)

    @torch.no_grad()
    def test_bytes_and_back(self, case: Case) -> None:
        """Every image's payload decodes to its own symbols, and its length is the one that is reported."""
        symbols = case.quantiser.symbols(case.bottleneck.encode(case.tensor)).numpy()
        codec = case.codec
        payloads = [codec.encode_symbols(image) for image in symbols]

        for image, payload in zip(symbols, payloads, strict=True):
            np.testing.assert_array_equal(image, codec.decode_symbols(payload))
        assert [len(payload) for payload in payloads] == codec.payload_bytes(symbols).tolist()

    @torch.no_grad()
    def test_symbols_are_counted_per_channel(self, case: Case) -> None:
        """For each channel how often each symbol is there, over all images and positions."""
        symbols = case.quantiser.symbols(case.bottleneck.encode(case.tensor))
        levels, axis = case.quantiser.quantiser.levels, case.bottleneck.channel_axis + 1
        expected = [
            [int((symbols.select(axis, channel) == symbol).sum()) for symbol in range(levels)]
            for channel in range(symbols.shape[axis])
        ]

        assert expected == case.quantiser.count_symbols(symbols).tolist()

    @torch.no_grad()
    def test_forward_is_the_way_through_the_quantiser(self, case: Case) -> None:
        """Straight through computes what the server gets; forward, what an exact link would give."""
        bottleneck, quantiser = case.bottleneck, case.quantiser
        latents = bottleneck.encode(case.tensor)
        expected = bottleneck.decode(quantiser.values(quantiser.symbols(latents)))

        torch.testing.assert_close(case.received(case.tensor), expected, rtol=1e-4, atol=1e-4)
        assert torch.equal(bottleneck.decode(latents), bottleneck(case.tensor))

    def test_gradient_passes_the_rounding_and_stops_at_the_ends(self, case: Case) -> None:
        """The gradient is as without rounding; zero where a latent lies beyond the quantiser's range."""
        with torch.no_grad():
            latents = case.bottleneck.encode(case.tensor)
            levels = case.codec.quantiser.levels
            ends = (torch.full_like(latents, symbol, dtype=torch.uint8) for symbol in (0, levels - 1))
            lowest, highest = map(case.quantiser.values, ends)
            latents[0] = highest[0] + 1
            latents[1] = lowest[1] - 1
            latents[2:] = lowest[2:] + (highest[2:] - lowest[2:]) * 0.37
        latents.requires_grad_()

        (3 * case.quantiser.straight_through(latents)).sum().backward()

        assert latents.grad is not None
        assert not latents.grad[:2].any()
        assert (latents.grad[2:] == 3).all()

    def test_everything_learns(self, case: Case) -> None:
        """Through the quantiser, gradients reach what crosses and every parameter on both sides."""
        tensor = case.tensor.clone().requires_grad_()
        case.received(tensor).square().sum().backward()

        assert tensor.grad is not None
        assert tensor.grad.any()
        for name, parameter in case.bottleneck.named_parameters():
            assert parameter.numel() == 0 or parameter.grad is not None, name

    @torch.no_grad()
    def test_built_again_from_spec_and_state(self, case: Case) -> None:
        """Spec and state dictionary are all that it takes."""
        again = build_bottleneck(case.spec, BUDGET)
        again.load_state_dict(case.bottleneck.state_dict())
        again.eval()

        assert torch.equal(case.bottleneck(case.tensor), again(case.tensor))
        assert case.spec == BottleneckSpec(design=case.spec.design, **case.bottleneck.structure())

    def test_sides(self, case: Case) -> None:
        """What the latents depend on is the encoder's, all else the decoder's; running it changes nothing."""
        before = {name: value.clone() for name, value in case.bottleneck.state_dict().items()}
        side = encoder_side(case.bottleneck, case.tensor.shape[1:])
        names = {name for name, parameter in case.bottleneck.named_parameters() if parameter.numel()}

        expected = {name for name in names if name.startswith("down") or "encoder" in name}
        assert expected == side.parameters & names
        assert all(torch.equal(before[name], value) for name, value in case.bottleneck.state_dict().items())
        assert not case.bottleneck.training

    @torch.no_grad()
    def test_saved_and_loaded(self, case: Case, tmp_path: Path) -> None:
        """A split's directory gives back record, bottleneck, codec and the trained tensors of the model."""
        record, codec = record_of(case.spec), case.codec
        tail = torch.nn.Linear(3, 2)
        written = save_split(tmp_path / "one", record, BuiltSplit(make_cut((1,)), case.bottleneck, codec, tail=tail))

        saved = read_split(tmp_path / "one")

        assert written == saved.record
        assert record == saved.record.model_copy(update={"weights": None, "codec": None})
        assert torch.equal(case.bottleneck(case.tensor), saved.bottleneck(case.tensor))
        assert codec.codec_id == saved.codec.codec_id
        assert {"tail.weight", "tail.bias"} == set(saved.tensors)
        assert torch.equal(tail.weight, saved.tensors["tail.weight"])
        assert not saved.bottleneck.training


def record_of(spec: BottleneckSpec) -> SplitRecord:
    """Return a record of a split that was measured on ten images."""
    accuracy = Accuracy.from_counts(9, 10)
    figures = "elements encoder_macs encoder_parameters decoder_macs decoder_parameters head_macs".split()
    measurement = Measurement(
        part="select",
        accuracy=accuracy,
        whole=accuracy,
        against_whole=Paired.from_answers([True] * 10, [True] * 9 + [False]),
        per_class={"a": accuracy},
        payload_bytes=PayloadBytes.from_lengths([30, 40]),
        clipped_share=0.0,
        head_mac_share=0.5,
        **dict.fromkeys(figures, 1),
    )
    return SplitRecord(
        isplit_version="0",
        versions={},
        model=MODEL,
        cut="layer.1",
        group="all classes",
        budget=Budget(payload_bytes=64),
        bottleneck=spec,
        statistics_images=10,
        samples_per_dimension=None,
        shrinkage=0.0,
        training=None,
        seed=0,
        measurement=measurement,
    )


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("weights", lambda content: content[:-1], "is damaged"),
        ("weights", lambda content: content[:-1] + bytes([content[-1] ^ 1]), "is not what split.json names"),
        ("weights", None, "is damaged"),
        ("codec", lambda content: content[:-30], "codec"),
        ("codec", lambda content: content + b"0", "codec"),
        ("split.json", lambda content: content[:-5], "split.json is damaged"),
        ("split.json", lambda content: content.replace(b'"ranks": [\n   3', b'"ranks": [\n   4'), "is damaged"),
    ],
)
def test_damaged_split_is_a_study_error(name: str, change, says: str, tmp_path: Path) -> None:
    """A file that is missing, cut short, or of another split is said to be so."""
    spec = SPECS["linear map"]
    bottleneck = build_bottleneck(spec, BUDGET)
    symbols = torch.zeros(1, *bottleneck.latent_shape, dtype=torch.uint8)
    codec = CodecOwner(MODEL, "x").make_codec(LatentQuantiser(Quantiser.common(0.1, levels=16)), symbols)
    record = save_split(tmp_path, record_of(spec), BuiltSplit(make_cut((1,)), bottleneck, codec))
    name = {"weights": record.weights.name, "codec": record.codec.name}.get(name, name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).unlink()
    if change is not None:
        assert change(content) != content
        (tmp_path / name).write_bytes(change(content))

    with pytest.raises(StudyError, match=says):
        read_split(tmp_path)


@pytest.mark.parametrize(
    ("spec", "macs", "numbers"),
    [
        # 4 patches of 2·2·2 numbers: each to be standardised, and to be multiplied for 3 latents; 3 rows, 2 + 2 scales.
        (spec_of("linear", (2, 4, 4), 1, patch=2, ranks=(3,)), (4 * 8 * 4,) * 2, (3 * 8 + 4,) * 2),
        # Half-empty patches cost as much as whole ones.
        (spec_of("linear", (2, 3, 3), 1, patch=2, ranks=(3,)), (4 * 8 * 4,) * 2, (3 * 8 + 4,) * 2),
        # One token in front with 2 latents, four of the grid with 3.
        (
            spec_of("linear", (5, 6), -1, prefix=1, ranks=(2, 3)),
            (1 * 6 * 3 + 4 * 6 * 4,) * 2,
            (2 * 6 + 12 + 3 * 6 + 12,) * 2,
        ),
        (spec_of("identity", (5, 6), -1), (0, 0), (0, 0)),
        # 9×9 to 5×5 to 3×3; 8 channels to 1 to 2, kernels of 9. Four numbers a channel of a norm, 8 biases at the end.
        (
            BottleneckSpec(design="undercomplete", shape=(8, 9, 9), channel_axis=1, widths=(1, 2)),
            (25 * 9 * 8 + 9 * 9 * 2,) * 2,
            (16 + 72 + 4 + 18 + 8, 16 + 18 + 4 + 72 + 8),
        ),
        # Three tokens, kernels of one.
        (
            BottleneckSpec(design="undercomplete", shape=(3, 8), channel_axis=-1, widths=(1, 2)),
            (3 * 8 + 3 * 2,) * 2,
            (16 + 8 + 4 + 2 + 8, 16 + 2 + 4 + 8 + 8),
        ),
    ],
)
def test_work_is_counted(spec: BottleneckSpec, macs: tuple[int, int], numbers: tuple[int, int]) -> None:
    """MACs and numbers of each side, by hand."""
    work = measure_work(build_bottleneck(spec, BUDGET), spec.shape)

    assert macs == (work.encoder_macs, work.decoder_macs)
    assert numbers == (work.encoder_parameters, work.decoder_parameters)


@pytest.mark.parametrize(("side", "latent"), [(1, 1), (2, 2), (3, 3), (4, 2), (5, 3), (6, 3), (7, 2), (8, 2), (9, 3)])
def test_strides_stop_below_four(side: int, latent: int) -> None:
    """9 → 5 → 3, but 6 → 3 → 3: a stride that would leave less than half of four is dropped."""
    built = build_bottleneck(spec_of("undercomplete", (16, side, side), 1), BUDGET)

    assert (latent, latent) == built.latent_shape[1:]


def test_class_token_has_latents_of_its_own() -> None:
    """The tokens in front are encoded by their own map: what they hold does not reach the grid's latents."""
    bottleneck = build_bottleneck(SPECS["linear tokens, class token"], BUDGET)
    with torch.no_grad():
        for value in bottleneck.parameters():
            value.copy_(torch.randn_like(value))
        tokens = torch.randn(1, 10, 6)
        other = tokens.clone()
        other[:, 0] += 1
        before, after = bottleneck.encode(tokens)[0], bottleneck.encode(other)[0]

    assert (2 + 1, 9) == before.shape
    assert torch.equal(before[:2], after[:2])
    assert not torch.isclose(before[2, :5], after[2, :5]).any()
    assert not before[2, 5:].any()
    assert not after[2, 5:].any()
