"""Code of the user that `--probe` names: `file.py:Class` or `package.module:Class`.

Only what the user typed is loaded. A file is read once, and exactly these bytes are hashed and
executed, so the recorded SHA-256 is that of the code that ran. Worker processes get the name and the
hash, and load the code again.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from vsp.errors import ConfigError

Options = tuple[tuple[str, Any], ...]  # names and values, sorted by name

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")  # YAML reads 1e-3 as text
_PLAIN = (bool, int, float, str, type(None))


def is_own(probe: str) -> bool:
    """Whether the name of a probe is that of the user's code, and not one of vsp's table."""
    return ":" in probe or probe.endswith(".py")


def probe_title(probe: str) -> str:
    """The name of a probe as pages show it: a file without its folders."""
    place, colon, name = probe.rpartition(":")
    return f"{Path(place).name}:{name}" if colon and place.endswith(".py") else probe


def probe_words(probe: str, options: Options) -> str:
    """Title and options: `sklearn.neighbors:KNeighborsClassifier(n_neighbors=5)`."""
    listed = ", ".join(f"{name}={value!r}" for name, value in options)
    return f"{probe_title(probe)}({listed})" if listed else probe_title(probe)


def absolute_name(probe: str, work: Path) -> str:
    """The same name for every spelling of a file, which tasks find from any folder."""
    place, colon, name = probe.rpartition(":")
    if not (colon and name and place):
        raise ConfigError(f"--probe {probe}: name a class, as {place or probe or 'file.py'}:Class")
    if not place.endswith(".py"):
        return probe
    path = work / Path(place).expanduser()
    if not path.is_file():
        raise ConfigError(f"--probe {probe}: no file {path}; correct the path")
    return f"{path.resolve()}:{name}"


def read_options(words: Sequence[str]) -> Options:
    """Options `NAME=VALUE`; values are read as YAML. Raises ConfigError for what is none."""
    import yaml

    options: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name.isidentifier():
            raise ConfigError(f"--probe-option {word}: use NAME=VALUE, as n_neighbors=5")
        if name in options:
            raise ConfigError(f"--probe-option {name}: is given twice; give it once")
        try:
            options[name] = _plain(yaml.safe_load(text))
        except (yaml.YAMLError, ValueError, RecursionError):
            raise ConfigError(
                f"--probe-option {word}: {text!r} is not a number, text, true, false, null or a list "
                "of these"
            ) from None
    return tuple(sorted(options.items()))


def _plain(value: Any) -> Any:
    """A value of YAML that JSON can record. Raises ValueError for others, such as dates."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict) and all(isinstance(name, str) for name in value):
        return {name: _plain(one) for name, one in value.items()}
    if not isinstance(value, _PLAIN):
        raise ValueError
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value


def code_version(probe: str) -> str:
    """What identifies the code: the SHA-256 of a file; of a package also its version."""
    return _load(probe)[1]


def load_code(probe: str, version: str) -> Callable[..., Any]:
    """The class, or the function, that `absolute_name` names.

    Raises ConfigError if it cannot be loaded or is not of this `code_version`.
    """
    found, its_version = _load(probe)
    if version and version != its_version:
        raise ConfigError(
            f"--probe {probe_title(probe)}: its code has changed since the command started; run the "
            "command again"
        )
    return found


@lru_cache(maxsize=8)
def _load(probe: str) -> tuple[Callable[..., Any], str]:
    place, _, name = probe.rpartition(":")
    if place.endswith(".py"):
        module, version = _load_file(Path(place), probe)
        return _member(module, name, probe), version
    module = _load_module(place, probe)
    found = _member(module, name, probe)
    home = sys.modules.get(getattr(found, "__module__", place), module)
    return found, ", ".join(filter(None, (_package_version(place), _file_sha256(home))))


def _load_file(path: Path, probe: str) -> tuple[ModuleType, str]:
    try:
        source = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"--probe {probe}: cannot be read ({error.strerror})") from None
    digest = hashlib.sha256(source).hexdigest()
    name = f"vsp_own_{digest[:16]}"
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:  # code of the user, which may raise anything
        del sys.modules[name]
        raise _not_imported(probe, error) from error
    return module, f"sha256:{digest}"


def _load_module(name: str, probe: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _not_imported(probe, error) from None
        near = _near(name.rpartition(".")[2], _siblings(name))
        raise ConfigError(
            f"--probe {probe}: no module {error.name}; {near or 'install its package, or name a file as file.py:Class'}"
        ) from None
    except (Exception, SystemExit) as error:  # code of a package, which may raise anything
        raise _not_imported(probe, error) from error


def _siblings(name: str) -> list[str]:
    """Modules of the package that should hold this one; none if it is not imported."""
    package = sys.modules.get(name.rpartition(".")[0])
    return [one.name for one in pkgutil.iter_modules(getattr(package, "__path__", ()))]


def _member(module: ModuleType, name: str, probe: str) -> Callable[..., Any]:
    title = probe_title(probe)
    found = getattr(module, name, None)
    if found is None:
        classes = [one for one, value in vars(module).items() if inspect.isclass(value)]
        near = _near(name, classes) or _known("it has", sorted(classes)) or "it has no class"
        raise ConfigError(f"--probe {title}: there is no {name}; {near}")
    if not callable(found):
        raise ConfigError(f"--probe {title}: {name} is not a class; name the class of an estimator")
    return found  # type: ignore[no-any-return]


def check_options(found: Callable[..., Any], options: Options, probe: str) -> None:
    """Raise ConfigError for an option that the class does not take."""
    parameters = _parameters(found)
    known = constructor_names(found)
    if parameters is None or any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        return
    for name, _ in options:
        if name not in known:
            near = _near(name, known) or _known("it has", known) or "it has none"
            raise ConfigError(
                f"--probe-option {name}: {probe_title(probe)} has no such option; {near}"
            )
    given = {name for name, _ in options}
    for name, one in parameters.items():
        if one.default is one.empty and name in known and name not in given:
            raise ConfigError(f"--probe {probe_title(probe)}: needs --probe-option {name}=VALUE")


def constructor_names(found: Callable[..., Any]) -> list[str]:
    """Names of the parameters that a class, or a function, takes by name."""
    parameters = _parameters(found) or {}
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [name for name, one in parameters.items() if one.kind in by_name]


def _parameters(found: Callable[..., Any]) -> Mapping[str, inspect.Parameter] | None:
    try:
        return inspect.signature(found).parameters
    except (TypeError, ValueError):  # some classes in C have no signature
        return None


def _near(name: str, known: Sequence[str]) -> str:
    close = get_close_matches(name, known, 3, 0.6)
    return f"did you mean {' or '.join(close)}?" if close else ""


def _known(words: str, names: Sequence[str], most: int = 8) -> str:
    if not names:
        return ""
    more = "" if len(names) <= most else " …"
    return f"{words} {', '.join(names[:most])}{more}"


def _not_imported(probe: str, error: BaseException) -> ConfigError:
    return ConfigError(
        f"--probe {probe_title(probe)}: cannot be loaded ({described(error)}); correct its code",
        own_traceback(error),
    )


def described(error: BaseException) -> str:
    """Type and message of an error, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def own_traceback(error: BaseException) -> list[str]:
    """The lines of a traceback, from the first frame that is not vsp's on."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = str(Path(__file__).parents[1])
    start = next(
        (i for i, one in enumerate(frames) if not one.filename.startswith(ours)), len(frames)
    )
    text = ["Traceback (most recent call last):\n", *traceback.format_list(frames[start:])]
    text += traceback.format_exception_only(error)
    return "".join(text).splitlines()


def _package_version(module: str) -> str:
    """Name and version of the installed package that holds a module; empty if there is none."""
    top = module.partition(".")[0]
    names = [top, *metadata.packages_distributions().get(top, ())]
    for name in reversed(names):
        try:
            return f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue
    return ""


def _file_sha256(module: ModuleType) -> str:
    path = getattr(module, "__file__", None)
    if not path or not Path(path).is_file():
        return ""
    return f"sha256:{hashlib.sha256(Path(path).read_bytes()).hexdigest()}"
