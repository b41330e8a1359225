"""Every exception that isplit raises on purpose.

    IsplitError                  anything below; a program that embeds isplit can catch this one
    ├── InputError               what the user gave cannot be used (also a ValueError); exit code 2
    │   ├── ModelError           unknown model, unusable weights, a model that cannot be captured
    │   ├── DataError            unknown data, a broken image, labels that do not fit the model
    │   ├── StudyError           a study directory that is missing, half-written, or another model's
    │   ├── BundleError              a bundle that is missing, damaged, altered, or not safe to open
    │   ├── ServerError          the server does not answer, refuses, or serves another bundle
    │   ├── PayloadError         bytes from the wire that are damaged, hostile, or another codec's
    │   └── MissingExtraError    an optional dependency is not installed
    ├── ExportError              exported files do not answer as the model does
    ├── EngineError              onnxruntime failed while it ran a model, or the model gave no finite numbers
    ├── OutputError              what was computed cannot be written: a full disk, say
    └── NonFiniteError           a computation gave NaN or infinity, so that no ranking can be given

    DamagedSplitWarning          (a UserWarning) a split of a study cannot be read and was left out

Messages say what was got and what to do about it.
"""

from collections.abc import Generator
from contextlib import contextmanager


class IsplitError(Exception):
    """The root of the tree."""


class InputError(IsplitError, ValueError):
    """The input cannot be used as it is; the message says how to change it."""


class ModelError(InputError):
    """The model cannot be found, loaded, or captured."""


class DataError(InputError):
    """The data cannot be found or read, or does not fit the model."""


class StudyError(InputError):
    """The study directory cannot be read or written, or belongs to other input."""


class BundleError(InputError):
    """The bundle cannot be opened: a file is missing, damaged, altered, or would lead outside."""


class PayloadError(InputError):
    """A payload cannot be decoded: it is damaged, or this codec did not make it."""


class ServerError(InputError):
    """The server that was named cannot be used: it does not answer, refuses, or serves another bundle."""


class MissingExtraError(InputError):
    """An optional dependency is missing; the message says which extra brings it."""


class EngineError(IsplitError):
    """A model that was loaded gave no usable output: out of memory, an input that it does not take, or NaN."""


class OutputError(IsplitError):
    """Results cannot be written; the message says where, why, and what was kept."""


class ExportError(IsplitError):
    """The exported files do not answer as the model does, so that no bundle was written."""


class NonFiniteError(IsplitError):
    """NaN or infinity came up where a ranking would need a number."""


class DamagedSplitWarning(UserWarning):
    """A split of a study cannot be read; work went on without it."""


@contextmanager
def needs_extra(extra: str) -> Generator[None]:
    """Turn the ImportError of an optional dependency into a message that says what to install.

    An ImportError from inside isplit is a fault of ours and goes through as it is.
    """
    try:
        yield
    except ImportError as error:
        missing = error.name or str(error)
        if missing.split(".")[0] == "isplit":
            raise
        msg = f"this needs {missing!r}, which is not installed: pip install 'isplit[{extra}]'"
        raise MissingExtraError(msg) from error
