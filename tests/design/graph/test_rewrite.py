"""What a captured graph changes of a model: it means the same for any batch, on either side of a cut."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from isplit.design.graph import ModelGraph, split
from isplit.design.inputs.models import load_model
from isplit.errors import ModelError


class Step(torch.autograd.Function):
    """A step whose gradient is that of the identity."""

    @staticmethod
    def forward(ctx, x):
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Net(nn.Module):
    """Two convolutions and a linear layer of `outputs`."""

    def __init__(self, outputs=5):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Linear(8, outputs)

    def features(self, x):
        return torch.relu(self.b(torch.relu(self.a(x))))

    def forward(self, x):
        return self.last(self.features(x).mean((2, 3)))


class InPlace(Net):
    def forward(self, x):
        return super().forward(x.sub_(0.5).div_(0.25))


class Squeezed(Net):
    def forward(self, x):
        return self.last(functional.adaptive_avg_pool2d(self.features(x), 1).squeeze())


class SqueezedAxes(Net):
    def forward(self, x):
        return self.last(self.features(x).mean((2, 3), keepdim=True).squeeze((0, 2, 3)))


class SqueezedByName(Net):
    def forward(self, x):
        x = torch.squeeze(input=self.features(x).mean((2, 3), keepdim=True), dim=(0, -1))
        return self.last(torch.squeeze(x, dim=2))


class Detached(Net):
    def forward(self, x):
        return self.last(self.features(x).detach().mean((2, 3)))


class Starred(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Net()

    def forward(self, *args, **kwargs):
        return self.inner(*args, **kwargs)


class Reserved(nn.Module):
    def __init__(self):
        super().__init__()
        self.graph, self.code, self.meta = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 5)

    def forward(self, x):
        return self.meta(torch.relu(self.code(torch.relu(self.graph(x)))).mean((2, 3)))


class OwnGradient(Net):
    def forward(self, x):
        return self.last(Step.apply(self.features(x)).mean((2, 3)))


class Low(Net):
    def forward(self, x):
        x = torch.relu(self.a(x)).bfloat16()
        return self.last(torch.relu(self.b(x.float())).mean((2, 3)))


@pytest.mark.parametrize(
    "kind", [InPlace, Squeezed, SqueezedAxes, SqueezedByName, Detached, Starred, Reserved, OwnGradient, Low]
)
def test_it_is_analysed_and_split_exactly(kind):
    """Every default cut is exact, also for a single image, and a gradient reaches it; the input stays as it was."""
    model = kind().eval()
    graph = ModelGraph(model, (3, 8, 8))
    cuts = [cut.name for cut in graph.record().cuts]
    images = torch.randn(1, 3, 8, 8)
    before = images.clone()
    expected = graph.module(images)

    assert len(cuts) >= 2
    assert torch.equal(before, images)
    assert (1, 5) == tuple(expected.shape)
    for name in cuts:
        sides = split(graph, name)
        assert torch.equal(expected, sides(images))
        crossing = sides.head(images).detach().float().requires_grad_()
        sides.tail(crossing)[:, 0].sum().backward()
        assert float(crossing.grad.abs().sum()) > 0, name


def test_a_last_softmax_is_taken_away():
    """The logits are its input, and a notice says so."""
    net = Net().eval()
    graph = ModelGraph(nn.Sequential(net, nn.Softmax(1)).eval(), (3, 8, 8))
    images = torch.randn(2, 3, 8, 8)

    assert torch.equal(net(images), graph.module(images))
    assert any("softmax" in notice for notice in graph.record().notices)


class TwoHeads(Net):
    """The average of two softmaxes: probabilities without a softmax at the end."""

    def forward(self, x):
        return (super().forward(x).softmax(1) + super().forward(x.flip(3)).softmax(1)) / 2


class TwoSigmoids(Net):
    """The average of two probabilities of one of two classes."""

    def __init__(self):
        super().__init__(1)

    def forward(self, x):
        return (super().forward(x).sigmoid() + super().forward(x.flip(3)).sigmoid()) / 2


def test_logarithms_of_other_probabilities_are_taken():
    """Their softmax is the model's own answer again; a notice says so."""
    model, images = TwoHeads().eval(), torch.randn(2, 3, 8, 8)
    graph = ModelGraph(model, (3, 8, 8))

    torch.testing.assert_close(model(images), graph.module(images).softmax(1))
    assert any("probabilities" in notice for notice in graph.record().notices)


def test_one_probability_decides_at_one_half():
    """As it is it would lie above zero always, and the second class win."""
    model, images = TwoSigmoids().eval(), torch.randn(2, 3, 8, 8)
    loaded = load_model(model, image_size=8)

    torch.testing.assert_close(model(images)[:, 0], loaded.graph().module(images).softmax(1)[:, 1])
    torch.testing.assert_close(model(images)[:, 0], loaded.logits(images).softmax(1)[:, 1])


def test_small_logits_are_no_probabilities():
    """Logits of an untrained model may all lie between 0 and 1 for usual images."""
    model = Net(1).eval()
    with torch.no_grad():
        model.last.weight.mul_(0.01)
        model.last.bias.fill_(0.5)

    notices = ModelGraph(model, (3, 8, 8)).record().notices

    assert not any("probabilities" in notice for notice in notices)


@pytest.mark.parametrize("shape", [(-1, 1), (-1,)])
def test_one_logit_is_two_classes(shape):
    """(0, z), whose softmax is the sigmoid of z."""
    net = Net(1)

    class One(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x).reshape(shape)

    images = torch.randn(2, 3, 8, 8)
    logits = ModelGraph(One().eval(), (3, 8, 8)).module(images)

    assert torch.equal(torch.cat([torch.zeros(2, 1), net(images)], 1), logits)


def test_random_layers_are_named_with_their_line():
    """The reason is not that images mix."""

    class Random(Net):
        def forward(self, x):
            return functional.dropout(super().forward(x), 0.5)

    with pytest.raises(ModelError, match=r"differently from run to run.*test_rewrite\.py:\d+: return functional"):
        ModelGraph(Random().eval(), (3, 8, 8))


def test_complex_tensors_are_no_cuts():
    """A bottleneck cannot make them smaller; the places are listed with the reason."""

    class Fourier(Net):
        def forward(self, x):
            spectrum = torch.fft.rfft2(torch.relu(self.a(x)))
            return self.last(torch.relu(self.b(torch.fft.irfft2(spectrum, s=(8, 8)))).mean((2, 3)))

    record = ModelGraph(Fourier().eval(), (3, 8, 8)).record()

    assert all(not tensor.dtype.startswith("complex") for cut in record.cuts for tensor in cut.crossing)
    assert any("complex" in item.reason for item in record.unavailable)


def test_a_parameter_is_squeezed_as_the_model_does():
    """Only the image's own tensors keep their first dimension; a parameter 1×5 becomes a vector all the same."""

    class Shifted(Net):
        def __init__(self):
            super().__init__()
            self.shift = nn.Parameter(torch.randn(1, 5))

        def forward(self, x):
            return super().forward(x) + self.shift.squeeze().cumsum(0)

    model = Shifted().eval()
    graph = ModelGraph(model, (3, 8, 8))
    images = torch.randn(2, 3, 8, 8)

    assert "torch.fx" == graph.record().captured_by
    torch.testing.assert_close(graph.module(images), model(images), rtol=0, atol=0)


def test_what_the_logits_do_not_need_is_dropped():
    """A branch that nothing uses, with all that only it needs, is no part of the graph."""

    class Idle(Net):
        def forward(self, x):
            torch.tanh(self.b(self.a(x))).sum()
            return self.last(torch.relu(self.a(x)).mean((2, 3)))

    graph = ModelGraph(Idle().eval(), (3, 8, 8))

    assert ["conv2d", "relu", "mean", "linear"] == [graph.flow.ops[node] for node in graph.flow.data_nodes[1:]]
    assert 8 * 28 + 9 * 5 == graph.record().parameters


def test_logits_that_are_a_matrix_are_left_alone():
    """Nothing is added behind a last layer that gives N×K in float32; a map N×K×1×1 is flattened."""
    plain = ModelGraph(Net().eval(), (3, 8, 8))
    pooled = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 5, 1)).eval()
    maps = ModelGraph(pooled, (3, 8, 8))

    assert ["linear", "flatten"] == [graph.flow.ops[graph.flow.logits] for graph in (plain, maps)]
    assert (2, 5) == tuple(maps.module(torch.randn(2, 3, 8, 8)).shape)


@pytest.mark.parametrize(
    "finish",
    [
        lambda x: torch.softmax(x, 1),
        lambda x: torch.softmax(x, 1).reshape(x.shape[0], -1),
        lambda x: torch.sigmoid(x).unsqueeze(2).squeeze(2).contiguous(),
        functional.logsigmoid,
        lambda x: torch.flatten(input=torch.softmax(input=x, dim=1), start_dim=1),
    ],
)
def test_a_softmax_is_taken_away_from_before_what_only_reshapes(finish):
    """Reshaping and copying, also to a size that is read from the batch, do not hide the probabilities."""

    class Probabilities(Net):
        def forward(self, x):
            return finish(super().forward(x))

    model = Probabilities().eval()
    graph = ModelGraph(model, (3, 8, 8))
    images = torch.randn(2, 3, 8, 8)

    assert "torch.fx" == graph.record().captured_by
    torch.testing.assert_close(graph.module(images), Net.forward(model, images), rtol=0, atol=0)


def test_a_softmax_that_is_used_further_stays():
    """The mean of two models' probabilities is the answer; there are no logits of it to go back to."""

    class Ensemble(Net):
        def forward(self, x):
            logits = super().forward(x)
            return (torch.softmax(logits, 1) + torch.softmax(2 * logits, 1)).flatten(1)

    model = Ensemble().eval()
    graph = ModelGraph(model, (3, 8, 8))
    images = torch.randn(2, 3, 8, 8)

    torch.testing.assert_close(graph.module(images), model(images), rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")
def test_torchscript_inside_is_one_cut_and_as_a_model_is_refused():
    """Its layers cannot be followed, but it is differentiated as a whole."""
    model = Net()
    model.b = torch.jit.script(nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU()))
    images = torch.randn(2, 3, 8, 8)
    graph = load_model(model, image_size=8).graph(keep_layout=True)

    assert torch.equal(model.eval()(images), split(graph, "b")(images))
    with pytest.raises(ModelError, match="TorchScript"):
        ModelGraph(torch.jit.script(Net()), (3, 8, 8))


def test_images_may_be_a_keyword_only_parameter():
    """`forward(self, *, image)` is called by that name."""

    class KeywordOnly(Net):
        def forward(self, *, image):
            return super().forward(image)

    model, images = KeywordOnly().eval(), torch.randn(2, 3, 8, 8)

    assert torch.equal(model(image=images), load_model(model, image_size=8).graph(keep_layout=True).module(images))
