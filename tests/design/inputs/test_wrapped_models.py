"""Models in wrappers of training are analysed as the model inside, and the caller's own stays as it was."""

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from isplit.design.graph import split
from isplit.design.inputs.models import load_model

IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Two convolutions with BatchNorm, dropout, and a linear layer that an adapter may take."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 4, 3, stride=2, padding=1)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(64, 16)
        self.classifier = nn.Linear(16, 5)

    def forward(self, x):
        x = torch.relu(self.second(torch.relu(self.norm(self.first(x)))))
        return self.classifier(torch.relu(self.fc(self.dropout(x.flatten(1)))))


class LowRank(nn.Module):
    """A linear layer with a low-rank addition, as LoRA has: W x + s B A x; W does not learn."""

    def __init__(self, base):
        super().__init__()
        self.base_layer = base.requires_grad_(requires_grad=False)
        self.lora_dropout = nn.Dropout(0.1)
        self.lora_A = nn.Linear(base.in_features, 2, bias=False)
        self.lora_B = nn.Linear(2, base.out_features, bias=False)
        self.scaling = 0.5

    def forward(self, x):
        return self.base_layer(x) + self.lora_B(self.lora_A(self.lora_dropout(x))) * self.scaling


def in_average():
    """Return the moving average of a model's weights after two updates, which differs from the model."""
    net = Net()
    averaged = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    averaged.update_parameters(net)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.5)
    averaged.update_parameters(net)
    return averaged, averaged.module


def in_parallel():
    net = Net()
    return nn.DataParallel(net), net


def in_compile():
    net = Net()
    return torch.compile(net, backend="eager"), net


def in_average_of_parallel():
    net = nn.DataParallel(Net())
    averaged = AveragedModel(net)
    return averaged, averaged.module.module


def with_compiled_part():
    net = Net()
    net.second = torch.compile(net.second, backend="eager")
    return net, net


def compiled_in_place():
    net = Net()
    net.compile(backend="eager")
    return net, net


def with_low_rank_layers():
    net = Net()
    net.fc, net.classifier = LowRank(net.fc), LowRank(net.classifier)
    return net, net


def in_peft():
    peft = pytest.importorskip("peft", reason="an adapter's library, which is no dependency")
    adapted = peft.get_peft_model(Net(), peft.LoraConfig(target_modules=["fc", "second"], r=2, init_lora_weights=False))
    return adapted, adapted


def state_of(model):
    """Return everything of a model that an analysis could change: values, gradients, modes, hooks and attributes."""
    return {
        "values": {name: value.clone() for name, value in model.state_dict().items()},
        "learns": {name: parameter.requires_grad for name, parameter in model.named_parameters()},
        "gradients": [name for name, parameter in model.named_parameters() if parameter.grad is not None],
        "modes": {name: module.training for name, module in model.named_modules()},
        "hooks": {
            name: (len(module._forward_hooks), len(module._forward_pre_hooks)) for name, module in model.named_modules()
        },
        "attributes": {name: set(vars(module)) for name, module in model.named_modules()},
    }


WRAPPERS = [
    in_average,
    in_parallel,
    in_compile,
    in_average_of_parallel,
    with_compiled_part,
    compiled_in_place,
    with_low_rank_layers,
    in_peft,
]


@pytest.mark.parametrize("wrap", WRAPPERS, ids=lambda wrap: wrap.__name__)
def test_wrapped_models(wrap):
    """The model inside is cut, every default cut gives its logits, and nothing of the caller's model has changed."""
    torch.manual_seed(0)
    wrapped, inner = wrap()
    wrapped.train()  # as it comes out of a training loop
    plain = copy.deepcopy(inner).eval()
    with torch.no_grad():
        expected = plain(IMAGES)
    before = state_of(wrapped)

    loaded = load_model(wrapped, image_size=16, preprocessing={"mean": 0.0, "std": 1.0})
    graph = loaded.graph()
    record = graph.record()

    assert {"first", "second"} <= {cut.name.split(".")[0] for cut in graph.record(all_cuts=True).cuts}
    assert len(record.cuts) >= 2
    with torch.no_grad():
        for cut in record.cuts:
            torch.testing.assert_close(split(graph, cut.name)(IMAGES.clone()), expected, msg=cut.name)
    after = state_of(wrapped)
    torch.testing.assert_close(after.pop("values"), before.pop("values"), rtol=0, atol=0)
    assert before == after
