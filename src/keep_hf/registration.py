"""Registration with diffusers: `DiffusionPipeline.from_pretrained` finds the pipeline and the components of keep_hf.

diffusers looks up the names in `model_index.json` in itself and in tables of the libraries that it knows. Neither is
public, which is why pyproject.toml limits the version of diffusers.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any


PIPELINE = "KeepPipeline"
COMPONENTS = ("DISFlow", "FaceDetector", "FaceIdentity", "GMFlow", "KalmanGainNetwork", "KeepVQModel", "YuNet")
# What saved pipelines name as their class: the file beside `model_index.json` that a program needs which has not
# imported keep_hf (`trust_remote_code=True`).
REMOTE_CLASS = ["pipeline", PIPELINE]
PIPELINE_MODULE = "diffusers.pipelines.pipeline_utils"


def register_with_diffusers(load: Callable[[str], Any]) -> None:
    """Register the names, as soon as the program has imported the pipelines of diffusers.

    Args:
        load (`Callable[[str], Any]`): Imports the class of a name.
    """
    if PIPELINE_MODULE in sys.modules:
        _register(load)
    else:  # importing diffusers here would take seconds, also for programs that do not use it
        sys.meta_path.insert(0, _AfterImport(lambda: _register(load)))


class _AfterImport(importlib.abc.MetaPathFinder):
    """Calls a function after the first import of `PIPELINE_MODULE`."""

    def __init__(self, function: Callable[[], None]) -> None:
        self.function = function

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        spec = importlib.machinery.PathFinder.find_spec(name, path) if name == PIPELINE_MODULE else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_call(module: ModuleType) -> None:
            execute(module)
            sys.meta_path.remove(self)
            self.function()

        spec.loader.exec_module = execute_and_call  # type: ignore[method-assign]
        return spec


def _register(load: Callable[[str], Any]) -> None:
    diffusers, pipelines = sys.modules["diffusers"], sys.modules[PIPELINE_MODULE]
    methods = {name: ["save_pretrained", "from_pretrained"] for name in COMPONENTS}
    pipelines.LOADABLE_CLASSES["keep_hf"] = methods  # type: ignore[attr-defined]
    pipelines.ALL_IMPORTABLE_CLASSES.update(methods)  # type: ignore[attr-defined]

    def find(name: str) -> Any:
        if name != PIPELINE and name not in COMPONENTS:
            raise AttributeError(f"module 'diffusers' has no attribute {name!r}")
        return load(name)

    diffusers.__getattr__ = find  # type: ignore[method-assign]

    read = pipelines.DiffusionPipeline._dict_from_json_file.__func__  # type: ignore[attr-defined]
    pipelines.DiffusionPipeline._dict_from_json_file = classmethod(  # type: ignore[attr-defined]
        lambda cls, *args, **kwargs: _use_installed_code(read(cls, *args, **kwargs))
    )


def _use_installed_code(config: dict[str, Any]) -> dict[str, Any]:
    """Replace the code in a repository by this package, which is what it imports: no `trust_remote_code` is needed."""
    if config.get("_class_name") != REMOTE_CLASS:
        return config
    # A file named like the library, in the folder of a component, goes before the library (`remote_code.py`). There is
    # none named `diffusers.py`, and diffusers finds our components by the function above.
    libraries = {name: ["diffusers", value[1]] for name, value in config.items() if _is_ours(value)}
    return config | libraries | {"_class_name": PIPELINE}


def _is_ours(value: Any) -> bool:
    return isinstance(value, list) and value[:1] == ["keep_hf"]
