"""Every bottleneck design, on every kind of tensor, as ONNX: the same symbols and values as in torch, for any batch."""

import numpy as np
import pytest
import torch
from torch import nn

from isplit.codec.quantise import Quantiser
from isplit.design.bottleneck.coding import LatentQuantiser
from isplit.design.bottleneck.spec import build_bottleneck
from isplit.design.onnx.files import WeightsFile, save_onnx, to_onnx
from isplit.errors import ModelError
from isplit.records import BottleneckSpec, Budget

SPECS = {
    "map, patches that do not fit": BottleneckSpec(
        design="linear", shape=(6, 7, 5), channel_axis=1, patch=2, ranks=(5,)
    ),
    "map, channels last": BottleneckSpec(design="linear", shape=(5, 5, 6), channel_axis=-1, patch=4, ranks=(7,)),
    "tokens with a prefix": BottleneckSpec(design="linear", shape=(10, 6), channel_axis=-1, prefix=1, ranks=(3, 2)),
    "a prefix that is not sent": BottleneckSpec(
        design="linear", shape=(10, 6), channel_axis=-1, prefix=1, ranks=(0, 2)
    ),
    "a grid that is not sent": BottleneckSpec(design="linear", shape=(10, 6), channel_axis=-1, prefix=1, ranks=(3, 0)),
    "map, joint": BottleneckSpec(design="linear", shape=(6, 7, 5), channel_axis=1, patch=2, ranks=(5,), joint=8),
    "tokens with a prefix, joint": BottleneckSpec(
        design="linear", shape=(10, 6), channel_axis=-1, prefix=1, ranks=(3, 2), joint=7
    ),
    "a prefix that is not sent, joint": BottleneckSpec(
        design="linear", shape=(10, 6), channel_axis=-1, prefix=1, ranks=(0, 2), joint=7
    ),
    "vector": BottleneckSpec(design="pca", shape=(1, 9), channel_axis=-1, ranks=(4,)),
    "undercomplete, map": BottleneckSpec(design="undercomplete", shape=(8, 7, 9), channel_axis=1, widths=(2, 3)),
    "undercomplete, tokens": BottleneckSpec(design="undercomplete", shape=(10, 8), channel_axis=-1, widths=(2, 3)),
    "identity": BottleneckSpec(design="identity", shape=(4, 3, 3), channel_axis=1),
}


class There(nn.Module):
    """The device's half, with the symbols as floats so that both halves fit into one output."""

    def __init__(self, bottleneck, quantiser):
        super().__init__()
        self.bottleneck = bottleneck
        self.quantiser = quantiser

    def forward(self, tensor):
        symbols = self.quantiser.symbols(self.bottleneck.encode(tensor))
        values = self.bottleneck.decode(self.quantiser.values(symbols))
        return torch.cat([symbols.flatten(1).float(), values.flatten(1)], dim=1)


def random_halves(spec):
    bottleneck = build_bottleneck(spec, Budget(payload_bytes=64)).eval()
    state = {
        name: torch.rand_like(value) + 0.5 if "scale" in name or "var" in name else torch.randn_like(value) / 2
        for name, value in bottleneck.state_dict().items()
        if value.is_floating_point()
    }
    bottleneck.load_state_dict(state, strict=False)
    if spec.design in ("linear", "pca"):
        quantiser = Quantiser.common(0.07, levels=200)
    else:
        channels = bottleneck.latent_shape[bottleneck.channel_axis]
        low = np.linspace(-1, -0.2, channels)
        quantiser = Quantiser.per_channel(low=low, high=low + np.linspace(1, 3, channels), levels=64)
    return There(bottleneck, LatentQuantiser(quantiser, bottleneck.channel_axis))


@pytest.mark.parametrize("name", SPECS)
def test_design(name, tmp_path, run_onnx):
    """Symbols are the same as torch's, and what they decode to is as near as float32 is."""
    spec = SPECS[name]
    module = random_halves(spec)
    model = to_onnx(module, torch.zeros(2, *spec.shape), source="tensor", target="both")
    save_onnx(model, tmp_path / "both.onnx")
    sent = int(np.prod(module.bottleneck.latent_shape))
    for images in (1, 2, 7):
        tensor = torch.randn(images, *spec.shape)
        with torch.no_grad():
            expected = module(tensor).numpy()
        answers = run_onnx(tmp_path / "both.onnx", tensor.numpy())
        np.testing.assert_array_equal(expected[:, :sent], answers[:, :sent])
        np.testing.assert_allclose(expected, answers, atol=1e-4)
    assert len(np.unique(expected[:, :sent])) > 3 or 0 in spec.ranks


def test_symbols_are_those_of_the_codec(tmp_path, run_onnx):
    """On values at the borders between symbols, and far beyond the range, ONNX rounds and clips as the codec does."""
    quantiser = Quantiser.per_channel(low=[-1.0, 0.0, 2.5], high=[1.0, 0.7, 9.0], levels=8)

    class Symbols(nn.Module):
        def forward(self, tensor):
            return LatentQuantiser(quantiser).symbols(tensor)

    save_onnx(to_onnx(Symbols(), torch.zeros(2, 3, 41), source="tensor", target="latent"), tmp_path / "symbols.onnx")
    steps, offsets = (np.array(values, np.float32)[:, None] for values in (quantiser.steps, quantiser.offsets))
    borders = (np.arange(-12, 29, dtype=np.float32) / 2 * steps + offsets).astype(np.float32)
    latents = np.stack([borders, np.nextafter(borders, -np.inf), np.nextafter(borders, np.inf), borders * 1e30])
    expected = [quantiser.quantise(latent) for latent in latents]
    np.testing.assert_array_equal(expected, run_onnx(tmp_path / "symbols.onnx", latents))


def test_a_module_that_fixes_the_batch():
    """A module that makes a number of its own out of the batch is refused, rather than exported for two images."""

    class Fixed(nn.Module):
        def forward(self, tensor):
            return tensor.reshape(len(tensor), -1) * len(tensor)

    with pytest.raises(ModelError, match=r"2 images at a time|cannot export"):
        to_onnx(Fixed(), torch.zeros(2, 3, 4), source="tensor", target="output")


def test_weights_in_two_files_of_models(tmp_path, run_onnx):
    """Models that share a tensor find it in one place of one file, each beside its own."""
    shared = nn.Linear(40, 40)
    modules = [shared, nn.Sequential(shared, nn.Linear(40, 30))]
    with WeightsFile(tmp_path) as weights:
        for number, module in enumerate(modules):
            model = to_onnx(module, torch.zeros(2, 40), source="tensor", target="output")
            weights.add(model)
            save_onnx(model, tmp_path / f"{number}.onnx")
    assert shared.weight.nbytes == weights.shared_bytes
    tensor = torch.randn(5, 40)
    for number, module in enumerate(modules):
        expected = module(tensor).detach().numpy()
        np.testing.assert_allclose(expected, run_onnx(tmp_path / f"{number}.onnx", tensor.numpy()), atol=1e-5)
    assert (tmp_path / "weights.bin").stat().st_size < 4096 * 2 + 40 * 70 * 4
