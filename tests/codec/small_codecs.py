"""Small codecs, and latents for them."""

from dataclasses import replace

import numpy as np

from isplit.codec.codec import Codec
from isplit.codec.quantise import Quantiser
from isplit.codec.rans import count_symbols

SHAPE = (8, 4, 5)


def counts_of(codec, latents):
    """Return how often each symbol of these latents comes up in each channel."""
    symbols = np.stack([codec.quantiser.quantise(latent, channel_axis=codec.channel_axis) for latent in latents])
    return count_symbols(symbols, channel_axis=codec.channel_axis, levels=codec.quantiser.levels)


def draw_latent(shape=SHAPE, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).laplace(size=shape).astype(dtype)


def make_codec(coder="raw", *, shape=SHAPE, quantiser=None, **fields):
    """Return a codec; for rans with tables from twenty latents."""
    quantiser = quantiser or Quantiser.common(0.25, levels=60)
    codec = Codec(model="0" * 64, cut="features.23", shape=shape, quantiser=quantiser, **fields)
    if coder != "rans":
        return replace(codec, coder=coder)
    return codec.with_rans(counts_of(codec, [draw_latent(shape, seed) for seed in range(20)]), images=20)


def make_per_channel(coder="raw"):
    low, high = np.linspace(-6, -3, 8), np.linspace(3, 5, 8)
    return make_codec(coder, quantiser=Quantiser.per_channel(low=low, high=high, levels=16))


def make_version_1(coder="raw", **fields):
    """Return a codec that writes and reads frames of version 1, as those of older bundles do."""
    return make_codec(coder, frame=1, **fields)
