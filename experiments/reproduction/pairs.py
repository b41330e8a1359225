"""The pairs of network and data set: six small ones, the cheapest first, and one with many test images."""

from dataclasses import dataclass, field
from pathlib import Path

EXPERIMENTS = Path(__file__).parent.parent
WEIGHTS = EXPERIMENTS / "weights"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A network with its weights, and its data.

    `data` is relative to the folder of the data sets, or to `WEIGHTS` where it was made by one of the scripts here.
    `few_bytes` is a budget at which the cuts differ. `subsets` are class subsets in the words of
    `isplit analyze --classes`, `recipe` the options of `train_network.py`.
    """

    name: str
    model: str
    image_size: int
    few_bytes: int
    data: str
    recipe: tuple[str, ...]
    subsets: tuple[str, ...] = field(default=())

    @property
    def weights(self) -> Path:
        """The file that `train_network.py` wrote."""
        return WEIGHTS / f"{self.name}.safetensors"

    def data_spec(self, folder: Path) -> str:
        """Return the data as `isplit analyze` takes it."""
        if self.data.startswith("idx:"):
            return "idx:" + ",".join(str(folder / name) for name in self.data.removeprefix("idx:").split(","))
        path = WEIGHTS / self.data
        return str(path if path.exists() else folder / self.data)


_VGG, _RESNET = f"{EXPERIMENTS / 'vgg16_trunk.py'}:build", "torchvision:resnet50"
_NOTMNIST = "idx:notmnist-images-idx3-ubyte.gz,notmnist-labels-idx1-ubyte.gz"
_XRAY, _TINY = "xray-3.zip", "tiny-imagenet-20.zip"
_TRUNK = ("--trunk", "vgg16-imagenet-trunk-fp16.safetensors")
_FROM_SCRATCH = ("--augment", "--learning-rate", "1e-3", "--classifier-learning-rate", "1e-3")
_SPLIT = ("normal,pneumonia=bacteria+virus", "bacteria,virus")
_LETTERS = ("0,1,2,3,4", "5,6,7,8,9")
_GROUPS = ("pets", "vehicles", "food", "structures")

PAIRS = (
    Pair(
        name="vgg16-notmnist",
        model=_VGG,
        image_size=32,
        few_bytes=30,
        data=_NOTMNIST,
        subsets=_LETTERS,
        recipe=(*_TRUNK, "--epochs", "3"),
    ),
    Pair(
        name="resnet50-notmnist",
        model=_RESNET,
        image_size=32,
        few_bytes=30,
        data=_NOTMNIST,
        subsets=_LETTERS,
        recipe=(*_FROM_SCRATCH[1:], "--epochs", "6"),
    ),
    Pair(
        name="vgg16-xray",
        model=_VGG,
        image_size=64,
        few_bytes=60,
        data=_XRAY,
        subsets=_SPLIT,
        recipe=(*_TRUNK, "--epochs", "3"),
    ),
    Pair(
        name="resnet50-xray",
        model=_RESNET,
        image_size=64,
        few_bytes=60,
        data=_XRAY,
        subsets=_SPLIT,
        recipe=(*_FROM_SCRATCH, "--epochs", "10"),
    ),
    Pair(
        name="resnet50-tin20",
        model=_RESNET,
        image_size=64,
        few_bytes=60,
        data=_TINY,
        subsets=_GROUPS,
        recipe=(*_FROM_SCRATCH, "--epochs", "9"),
    ),
    Pair(
        name="vgg16-tin20",
        model=_VGG,
        image_size=64,
        few_bytes=60,
        data=_TINY,
        subsets=_GROUPS,
        recipe=(*_TRUNK, "--epochs", "3"),
    ),
)

CLASSES = {"notmnist": 10, "xray": 3, "tin20": 20, "tin100": 100}
"""The number of classes of each data set, by the last word of a pair's name."""

MANY_IMAGES = Pair(
    name="mobilenetv2-tin100",
    model="torchvision:mobilenet_v2",
    image_size=96,
    few_bytes=128,
    data="tiny-imagenet-100.zip",
    recipe=("--start", "mobilenet_v2-b0353104.pth", "--epochs", "3", "--learning-rate", "3e-4", "--augment"),
)
