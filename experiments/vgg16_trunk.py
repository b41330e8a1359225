"""VGG16's convolutional trunk with global average pooling and one linear layer, for small images of few classes."""

import torch
from torch import nn
from torchvision.models import vgg16

from isplit.records import Preprocessing


class VGG16Trunk(nn.Module):
    """The 13 convolutions and 5 pools of torchvision's VGG16 (`features`), then N×512×1×1 -> logits."""

    preprocessing = Preprocessing(
        image_size=(64, 64),
        resize_size=64,
        interpolation="bilinear",
        channels=3,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.features = vgg16(weights=None, init_weights=False).features
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(512, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map N×3×H×W to N×num_classes; H and W at least 32."""
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


def build(num_classes: int = 20) -> VGG16Trunk:
    """Build the network with random initial values."""
    return VGG16Trunk(num_classes)
