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
from isplit.design.bottleneck.sides import encoder_side
from isplit.design.bottleneck.spec import build_bottleneck
from isplit.design.splits import BuiltSplit, read_split, save_split
from isplit.records import (
    BottleneckSpec,
)
from tests.design.bottleneck.small_specs import BUDGET, MODEL, SPECS, record_of
from tests.design.conftest import make_cut

BATCH = 5


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
