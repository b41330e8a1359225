"""What a model alone tells, without data: its cuts, and its two sides at one of them."""

from torch import nn

from isplit.design.graph import Split, split
from isplit.design.inputs.models import LoadedModel, load_model
from isplit.records import GraphRecord


def list_cuts(
    model: LoadedModel | nn.Module | str, *, pre_activation: bool = False, all_cuts: bool = False
) -> GraphRecord:
    """Return a model's cuts with what crosses them and what lies on either side; no data is needed.

    Args:
        model: From `load_model`, or what that takes.
        pre_activation: Whether to list the points before activations too.
        all_cuts: Whether to list every cut, those with several crossing tensors included.

    Returns:
        The record; its `notices` begin with what was guessed in loading, such as which output is the logits.

    Raises:
        ModelError: the model cannot be loaded or captured.

    Examples:
        >>> [cut.name for cut in isplit.list_cuts("net.py:build").cuts][:3]
        ['relu1', 'pool1', 'relu2']

    """
    loaded = _loaded(model)
    record = loaded.graph(keep_layout=True).record(pre_activation=pre_activation, all_cuts=all_cuts)
    # Other warnings are about weights, which cuts do not depend on.
    doubt = (loaded.output_doubt,) if loaded.output_doubt else ()
    return record.model_copy(update={"notices": (*doubt, *loaded.notices, *record.notices)})


def split_model(model: LoadedModel | nn.Module | str, cut: str) -> Split:
    """Split a model at a cut into a head and a tail: tail(head(x)) equals model(x).

    Args:
        model: From `load_model`, or what that takes.
        cut: The cut's name.

    Raises:
        ModelError: the model cannot be loaded or captured, or has no such cut.

    Examples:
        >>> model = isplit.load_model("net.py:build")
        >>> sides = isplit.split_model(model, "pool1")
        >>> images = torch.randn(2, 3, 16, 16)
        >>> bool(torch.equal(sides.tail(sides.head(images)), model.module(images)))
        True

    """
    return split(_loaded(model).graph(keep_layout=True), cut)


def _loaded(model: LoadedModel | nn.Module | str) -> LoadedModel:
    return model if isinstance(model, LoadedModel) else load_model(model)
