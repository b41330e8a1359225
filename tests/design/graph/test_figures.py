"""The figures of small networks, which can be worked out by hand."""

from isplit.design.graph import ModelGraph
from tests.design.graph.nets import TwoLayers


def test_figures_by_hand() -> None:
    """Shapes, bytes, MACs, parameters and peak memory of two layers."""
    record = ModelGraph(TwoLayers(), (3, 8, 8)).record()
    relu, pool = record.cuts

    assert ("relu", "pool") == (relu.name, pool.name)
    assert (4, 8, 8) == relu.shape
    assert (4 * 64 * 4, 4 * 16 * 4) == (relu.bytes, pool.bytes)
    conv_macs, linear_macs = 4 * 64 * 27, 64 * 5
    assert conv_macs + linear_macs == record.macs
    assert (conv_macs, linear_macs) == (relu.head_macs, relu.tail_macs)
    assert (4 * 28, 65 * 5) == (relu.head_parameters, relu.tail_parameters)
    # The image and the convolution's result; the ReLU works in place.
    assert 3 * 64 * 4 + 4 * 64 * 4 == relu.head_peak_bytes
    # The map and its pooled quarter.
    assert 4 * 64 * 4 + 4 * 16 * 4 == relu.tail_peak_bytes
    assert 4 * 16 * 4 + 5 * 4 == pool.tail_peak_bytes
    assert 3 * 64 * 4 == record.input_bytes
    assert (5,) == record.output_shape


def test_the_layer_that_is_cut_behind_is_on_the_device() -> None:
    """Behind the convolution its MACs are the head's alone, and only the linear layer's are left for the tail."""
    conv = ModelGraph(TwoLayers(), (3, 8, 8)).record(all_cuts=True).cut("conv")

    assert (4 * 64 * 27, 64 * 5) == (conv.head_macs, conv.tail_macs)
    assert (4 * 28, 65 * 5) == (conv.head_parameters, conv.tail_parameters)
