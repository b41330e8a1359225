"""Users' own functions, named by file or package: found and called, whatever they raise turned into our errors."""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from isplit.errors import InputError


def import_factory(spec: str, *, error: type[InputError]) -> Callable[..., Any]:
    """Return the function that `./file.py:name` or `package.module:name` names.

    A file is run under a module name of its own; its directory (for a package: the working directory) is on the
    import path only meanwhile.

    Raises:
        InputError: of the type `error`; it cannot be imported, or has no such function.

    """
    where, _, name = spec.rpartition(":")
    path = Path(where).expanduser()
    from_file = path.suffix == ".py"
    sys.path.insert(0, str(path.resolve().parent if from_file else Path.cwd()))
    entry = sys.path[0]
    try:
        module = _run_file(path) if from_file else importlib.import_module(where)
    except (Exception, SystemExit) as cause:  # the user's code may raise anything
        msg = f"{spec}: {where} cannot be imported: {type(cause).__name__}: {cause}"
        raise error(msg) from cause
    finally:
        if entry in sys.path:  # unless the user's code took it away itself
            sys.path.remove(entry)
    factory = getattr(module, name, None)
    if not callable(factory):
        own = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        msg = f"{where} has no function {name!r}; it has {', '.join(sorted(own)) or 'none'}"
        raise error(msg)
    return factory


def _run_file(path: Path) -> ModuleType:
    """Run a Python file as a module; its name is its own, so that it hides no other module."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no such file: {path}")
    module_name = f"_isplit_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    found = importlib.util.spec_from_file_location(module_name, path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[module_name] = module  # dataclasses and pickle look their classes' module up
    try:
        found.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return module


def call_factory(factory: Callable[..., Any], /, *, spec: str, error: type[InputError], **arguments: Any) -> Any:
    """Call a user's function; whatever it raises becomes an `error` with that as its cause."""
    try:
        return factory(**arguments)
    except (Exception, SystemExit) as cause:  # the user's code may raise anything
        msg = f"{spec} failed: {type(cause).__name__}: {cause}"
        raise error(msg) from cause
