"""Users' own functions, named by file or package: found and called, whatever they raise turned into our errors."""

import functools
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import sysconfig
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from isplit.errors import InputError
from isplit.records.files import resolved


def import_factory(spec: str, *, error: type[InputError]) -> Callable[..., Any]:
    """Return the function that `./file.py:name` or `package.module:name` names.

    A file is run under a module name of its own. While it runs, and while the function is called, its directory (for a
    package: the working directory) is on the import path, and modules that it imports from there are its own: two
    files may each have a neighbour `helper.py`.

    Raises:
        InputError: of the type `error`; it cannot be imported, or has no such function.

    """
    where, _, name = spec.rpartition(":")
    path = Path(where).expanduser()
    from_file = path.suffix == ".py"
    folder = resolved(path).parent if from_file else Path.cwd()
    try:
        with _imports_from(folder, own_modules=from_file):
            module = _run_file(path) if from_file else importlib.import_module(where)
    except (Exception, SystemExit) as cause:  # the user's code may raise anything
        msg = f"{spec}: {where} cannot be imported: {type(cause).__name__}: {cause}"
        raise error(msg) from cause
    factory = getattr(module, name, None)
    if not callable(factory):
        names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        msg = f"{where} has no function {name!r}; it has {', '.join(sorted(names)) or 'none'}"
        raise error(msg)
    # A class or an object stays what it is, so that it can be inherited from, compared and described.
    is_function = inspect.isfunction(factory) or isinstance(factory, functools.partial)
    return _with_imports(factory, folder, own_modules=from_file) if is_function else factory


def _with_imports(factory: Callable[..., Any], folder: Path, *, own_modules: bool) -> Callable[..., Any]:
    """Return the function so that it can import its neighbours when it is called."""

    @functools.wraps(factory)
    def call(*args: Any, **kwargs: Any) -> Any:
        with _imports_from(folder, own_modules=own_modules):
            return factory(*args, **kwargs)

    return call


_MODULES: dict[Path, dict[str, ModuleType]] = {}


@contextmanager
def _imports_from(folder: Path, *, own_modules: bool) -> Generator[None]:
    """Put a folder on the import path for the block.

    Args:
        folder: Comes first on the path.
        own_modules: Keep modules that are imported from the folder apart from those of other folders: after the block
            they are taken out of `sys.modules`, and put back when the folder is used again.

    """
    entry = str(folder)
    hidden: dict[str, ModuleType] = {}
    if own_modules:
        known = _MODULES.setdefault(folder, {})
        neighbours = _module_names(folder)
        hiding = [name for name in sys.modules if name.partition(".")[0] in neighbours and _hides(name, folder)]
        hidden = {name: sys.modules.pop(name) for name in hiding}
        hidden |= {name: sys.modules[name] for name in known if name in sys.modules}
        sys.modules.update(known)
    before = set(sys.modules)
    sys.path.insert(0, entry)
    # Folders that were written to a moment ago would not be looked through again.
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if entry in sys.path:  # unless the user's code took it away itself
            sys.path.remove(entry)
        if own_modules:
            known = _MODULES[folder]
            known.update(
                {name: sys.modules[name] for name in set(sys.modules) - before if _is_from(sys.modules[name], folder)}
            )
            for name in known:
                sys.modules.pop(name, None)
            sys.modules.update(hidden)


def _is_from(module: ModuleType, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    if module.__name__.startswith(_PREFIX) or not file or _is_installed(file):
        return False
    return Path(file).resolve().is_relative_to(folder)


def _module_names(folder: Path) -> set[str]:
    """Return the names of the modules and packages that can be imported from a folder."""
    try:
        with os.scandir(folder) as entries:
            files, folders = [], []
            for entry in entries:
                (folders if entry.is_dir() else files).append(entry.name)
    except OSError:  # the folder is missing, which is reported where its file is read
        return set()
    packages = {name for name in folders if (folder / name / "__init__.py").is_file()}
    return packages | {name.removesuffix(".py") for name in files if name.endswith(".py")}


def _hides(name: str, folder: Path) -> bool:
    """Return whether a loaded module of another folder stands before one of the same name in this folder.

    The folder has a module or a package of that name.
    """
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names or top.startswith(_PREFIX) or top in ("isplit", "__main__"):
        return False
    file = getattr(sys.modules.get(top), "__file__", None)
    return bool(file) and not _is_installed(str(file)) and not Path(str(file)).resolve().is_relative_to(folder)


def _is_installed(file: str) -> bool:
    return file.startswith((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))


_PREFIX = "_isplit_"


def _run_file(path: Path) -> ModuleType:
    """Run a Python file as a module; its name is its own, so that it hides no other module."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no such file: {path}")
    module_name = f"{_PREFIX}{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    module_spec = importlib.util.spec_from_file_location(module_name, path)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_name] = module  # dataclasses and pickle look their classes' module up
    try:
        module_spec.loader.exec_module(module)
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


_BUILT_IN_KINDS = ("torchvision:", "timm:", "sklearn:", "idx:", "hf:", "hfdata:", "isplit.")


def names_code(spec: str) -> bool:
    """Whether loading a model or data of this name would run Python code that is neither isplit's nor a library's.

    Such names are `./file.py:name` and `package.module:name`. A path that happens to hold a colon is no such name.

    Examples:
        >>> [names_code(spec) for spec in ("net.py:build", "my.package:build", "torchvision:vgg16", "photos.zip")]
        [True, True, False, False]

    """
    where, _, name = spec.rpartition(":")
    return bool(where) and name.isidentifier() and not spec.startswith(_BUILT_IN_KINDS) and not Path(spec).exists()
