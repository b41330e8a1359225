"""Define forward passes of torch.nn's composed modules that torch.fx can follow.

torch.fx keeps torch.nn's modules whole, because their own forward passes check shapes and choose fused kernels. For
those that hold layers of their own this hides the cuts between the layers. The functions here compute the same, step
by step, as the modules' own unfused paths do.
"""

from collections.abc import Callable
from typing import Any

from torch import nn


def encoder_layer(
    layer: nn.TransformerEncoderLayer,
    src: Any,
    src_mask: Any = None,
    src_key_padding_mask: Any = None,
    is_causal: bool = False,
) -> Any:
    """Compute `nn.TransformerEncoderLayer`: attention and a small network, each with a shortcut and a norm."""
    if layer.norm_first:
        src = src + layer._sa_block(layer.norm1(src), src_mask, src_key_padding_mask, is_causal=is_causal)
        return src + layer._ff_block(layer.norm2(src))
    src = layer.norm1(src + layer._sa_block(src, src_mask, src_key_padding_mask, is_causal=is_causal))
    return layer.norm2(src + layer._ff_block(src))


def encoder(
    stack: nn.TransformerEncoder,
    src: Any,
    mask: Any = None,
    src_key_padding_mask: Any = None,
    is_causal: bool | None = None,
) -> Any:
    """Compute `nn.TransformerEncoder`: its layers one after the other, and its norm."""
    for layer in stack.layers:
        src = layer(src, src_mask=mask, src_key_padding_mask=src_key_padding_mask, is_causal=bool(is_causal))
    return src if stack.norm is None else stack.norm(src)


def decoder(
    stack: nn.TransformerDecoder,
    tgt: Any,
    memory: Any,
    tgt_mask: Any = None,
    memory_mask: Any = None,
    tgt_key_padding_mask: Any = None,
    memory_key_padding_mask: Any = None,
    tgt_is_causal: bool | None = None,
    memory_is_causal: bool = False,
) -> Any:
    """Compute `nn.TransformerDecoder`: its layers one after the other, and its norm."""
    for layer in stack.layers:
        tgt = layer(
            tgt,
            memory,
            tgt_mask=tgt_mask,
            memory_mask=memory_mask,
            tgt_key_padding_mask=tgt_key_padding_mask,
            memory_key_padding_mask=memory_key_padding_mask,
            tgt_is_causal=bool(tgt_is_causal),
            memory_is_causal=memory_is_causal,
        )
    return tgt if stack.norm is None else stack.norm(tgt)


def transformer(model: nn.Transformer, src: Any, tgt: Any, **masks: Any) -> Any:
    """Compute `nn.Transformer`: the encoder, then the decoder on what it gives."""
    memory = model.encoder(src, mask=masks.get("src_mask"), src_key_padding_mask=masks.get("src_key_padding_mask"))
    names = ("tgt_mask", "memory_mask", "tgt_key_padding_mask", "memory_key_padding_mask")
    return model.decoder(tgt, memory, **{name: masks.get(name) for name in names})


OPENED: dict[Callable[..., Any], Callable[..., Any]] = {
    nn.TransformerEncoderLayer.forward: encoder_layer,
    nn.TransformerEncoder.forward: encoder,
    nn.TransformerDecoder.forward: decoder,
    nn.Transformer.forward: transformer,
}
"""Functions that are traced instead of the forward passes of modules that hold layers of their own."""

CONTAINERS = (nn.TransformerEncoderLayer, nn.TransformerEncoder, nn.TransformerDecoderLayer, nn.TransformerDecoder)
"""Modules of torch.nn that are traced into; with `nn.Transformer`."""

RECURRENT = (nn.LSTM, nn.GRU, nn.RNN)


def recurrent_layers(module: nn.RNNBase) -> list[nn.RNNBase]:
    """Return the layers of a recurrent network as modules of their own, which share its parameters.

    Dropout between the layers is left out: it is off in evaluation mode, where cuts are used.
    """
    layers: list[nn.RNNBase] = []
    directions = 2 if module.bidirectional else 1
    width = directions * (module.proj_size or module.hidden_size)
    for number in range(module.num_layers):
        options: dict[str, Any] = {"proj_size": module.proj_size} if isinstance(module, nn.LSTM) else {}
        if isinstance(module, nn.RNN):
            options["nonlinearity"] = module.nonlinearity
        kind: Any = type(module)
        layer = kind(
            module.input_size if number == 0 else width,
            module.hidden_size,
            bias=module.bias,
            batch_first=module.batch_first,
            bidirectional=module.bidirectional,
            device="meta",  # draws no random numbers
            **options,
        )
        for name in layer._flat_weights_names:
            # Not by getattr, which gives a symbol while the model is traced.
            setattr(layer, name, module._parameters[name.replace("_l0", f"_l{number}")])
        layers.append(layer.train(module.training))
    return layers
