"""A learned bottleneck with a factorised prior, as two convolutions down and two up.

    features ─ conv ─ GDN ─ conv ─ gain ─ round, code │ decode ─ 1/gain ─ conv ─ GDN⁻¹ ─ conv ─ features'
               encoder, on the device                 │ decoder, on the server

The layers and the prior are those of CompressAI (Ballé et al. 2018), a development tool of these experiments alone;
learned_opponents.py says how to install it. Only `LearnedBottleneck` needs it.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from isplit.codec.frame import HEADER_BYTES

_ENCODER_KERNEL = 3
_DECODER_KERNEL = 5
_DECODER_WIDTH = 128
_FIRST_SPREAD = 2.0  # of the latents before training, in steps of the rounding


class LearnedBottleneck(nn.Module):
    """Two convolutions down, two up, and a factorised prior of the latents.

    Args:
        shape: What crosses (C, H, W), with H and W divisible by four.
        latents: The channels of the latents, which are H/4×W/4.
        width: The channels between the encoder's convolutions.
        mean: The mean of each channel that crosses (C).
        scale: The standard deviation of each channel (C).

    """

    mean: torch.Tensor
    scale: torch.Tensor
    gain: torch.Tensor

    def __init__(
        self, shape: tuple[int, ...], *, latents: int, width: int, mean: torch.Tensor, scale: torch.Tensor
    ) -> None:
        from compressai.entropy_models import EntropyBottleneck  # pyright: ignore[reportMissingImports]
        from compressai.layers import GDN  # pyright: ignore[reportMissingImports]

        super().__init__()
        channels = shape[0]
        self.register_buffer("mean", mean[:, None, None].clone())
        self.register_buffer("scale", scale[:, None, None].clone())
        self.register_buffer("gain", torch.tensor(1.0))
        self.encoder = nn.Sequential(_down(channels, width), GDN(width), _down(width, latents))
        self.decoder = nn.Sequential(
            _up(latents, _DECODER_WIDTH), GDN(_DECODER_WIDTH, inverse=True), _up(_DECODER_WIDTH, channels)
        )
        self.prior = EntropyBottleneck(latents, init_scale=2 * _FIRST_SPREAD)

    def encode(self, features: torch.Tensor) -> torch.Tensor:
        """Return latents N×K×h×w before they are rounded."""
        return self.encoder((features - self.mean) / self.scale) * self.gain

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Return features from latents."""
        return self.decoder(latents / self.gain) * self.scale + self.mean

    def spread(self, features: torch.Tensor) -> None:
        """Set the gain such that rounding keeps most of the latents of some features before training."""
        with torch.no_grad():
            self.gain.fill_(_FIRST_SPREAD / float(self.encode(features).std()))

    def quantised(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return latents with noise while the module trains, else rounded, and the likelihood of each."""
        return self.prior(latents)

    def prior_parameters(self) -> list[nn.Parameter]:
        """Return what the rate trains: all of the prior but its quantiles, which follow from the rest."""
        return [parameter for name, parameter in self.prior.named_parameters() if name != "quantiles"]

    def make_tables(self) -> None:
        """Make the coder's tables from the prior as it is now."""
        self.prior.update(force=True, update_quantiles=True)

    def payloads(self, latents: torch.Tensor) -> list[bytes]:
        """Return each image's coded latents, without a header."""
        return self.prior.compress(latents)

    def received(self, payloads: list[bytes], size: torch.Size) -> torch.Tensor:
        """Return the latents that a server decodes; `size` is that of one channel."""
        return self.prior.decompress(payloads, size)


def _down(channels: int, width: int) -> nn.Conv2d:
    return nn.Conv2d(channels, width, _ENCODER_KERNEL, stride=2, padding=_ENCODER_KERNEL // 2)


def _up(channels: int, width: int) -> nn.ConvTranspose2d:
    edge = _DECODER_KERNEL // 2
    return nn.ConvTranspose2d(channels, width, _DECODER_KERNEL, stride=2, padding=edge, output_padding=1)


@dataclass(frozen=True)
class SideWork:
    """What one side of a bottleneck computes for an image, and the numbers that it keeps."""

    macs: int
    parameters: int


def work_of(side: nn.Module, example: torch.Tensor) -> SideWork:
    """Count the multiply-accumulate operations of an encoder or a decoder, and its parameters."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        side(example)
    return SideWork(counter.get_total_flops() // 2, sum(parameter.numel() for parameter in side.parameters()))


def width_for(macs: float, shape: tuple[int, ...], *, latents: int) -> int:
    """Return the width whose encoder computes nearest to so many multiply-accumulate operations."""
    channels, height, width = shape
    area, positions = _ENCODER_KERNEL**2, height * width // 16

    def encoder_macs(number: int) -> int:
        first = 4 * positions * number * (area * channels + number)  # the convolution and its GDN
        return first + positions * area * number * latents

    return min(range(2, 1025), key=lambda number: abs(encoder_macs(number) - macs))


def coded_bytes(likelihoods: torch.Tensor) -> torch.Tensor:
    """Return the mean bytes of an image for an ideal coder with the prior, header included."""
    return -likelihoods.log2().sum() / len(likelihoods) / 8 + HEADER_BYTES
