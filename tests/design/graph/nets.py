"""Small networks that several tests of the graph cut."""

import operator
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional


class TwoLayers(nn.Module):
    """3×8×8 -> conv 4 -> ReLU -> pool -> linear 5."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.linear = nn.Linear(4 * 4 * 4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(torch.flatten(self.pool(self.relu(self.conv(x))), 1))


class Residual(nn.Module):
    """Reused modules and operations without a module: names have to be made."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.conv1, self.conv2 = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.relu = nn.ReLU()
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.stem(x))
        x = self.relu(x + self.conv1(x))
        x = functional.relu(operator.iadd(self.conv2(x), x))
        return self.head(x.mean((2, 3)))


class Tokens(nn.Module):
    """Integers that follow the batch, parameters that cross no cut, and attention."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.norm = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.classifier = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, _, h, w = x.shape
        x = self.patch(x).reshape(n, 8, (h // 4) * (w // 4)).transpose(1, 2)
        x = torch.cat([self.token.expand(n, -1, -1), x], dim=1)
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return self.classifier(x[:, 0].reshape(n, 8))


class Sequences(nn.Module):
    """3×16×16 -> 16 patches -> recurrent layers -> transformer layers -> linear 3, with the batch first or second."""

    def __init__(self, *, batch_first: bool) -> None:
        super().__init__()
        self.axis = 1 if batch_first else 0
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first)
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.rows = nn.LSTM(8, 8, num_layers=2, batch_first=batch_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.classifier = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        patches = self.stem(x).flatten(2)
        sequence = patches.permute(0, 2, 1) if self.axis == 1 else patches.permute(2, 0, 1)
        return self.classifier(self.encoder(self.rows(sequence)[0]).mean(self.axis))


def both_layouts() -> tuple[Sequences, Sequences]:
    """Return the network with the batch first, and the same with the batch second; they share values, not tensors."""
    torch.manual_seed(0)
    first, second = Sequences(batch_first=True).eval(), Sequences(batch_first=False).eval()
    second.load_state_dict(first.state_dict())
    return first, second


class Stateful(nn.Module):
    """Two layers whose forward pass is given, with a buffer and a counter."""

    def __init__(self, forward: Callable[["Stateful", torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)
        self.register_buffer("mean", torch.zeros(()))
        self.calls = 0
        self.body = [forward]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body[0](self, x)

    def answer(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(torch.relu(self.conv(x)).mean((2, 3)))
