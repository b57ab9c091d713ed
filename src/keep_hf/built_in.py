"""The checkpoints in the package, by name."""

import os
from pathlib import Path
from typing import Any

from .loading_errors import check_settings, check_weights, report_load_errors


BUILT_IN = {name: Path(__file__).parent / "checkpoints" / name for name in ("keep-small", "keep-tiny")}


def find_built_in(name: str | os.PathLike) -> Path | None:
    """Return the folder of a built-in checkpoint; `None` for other names, and for a folder of the same name."""
    return None if Path(name).is_dir() else BUILT_IN.get(str(name))


def check_variant(name: str | os.PathLike, variant: str | None) -> None:
    """Check the variant of a built-in checkpoint: it has one set of files, in half precision.

    Raises:
        ValueError: If it is another one than `"fp16"`.
    """
    if variant not in (None, "fp16"):
        raise ValueError(
            f"{str(name)!r} is stored in half precision: variant must be 'fp16' or None, got {variant!r}."
        )


class BuiltInWeights:
    """Mixin of the networks: `from_pretrained("keep-small", subfolder="vq")`."""

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike, **kwargs: Any) -> Any:
        """Load the network from a built-in checkpoint, a folder or the Hub.

        Args:
            name (`str` or `os.PathLike`): Built-in name, folder, or Hub id.
            kwargs: As for `ModelMixin.from_pretrained`: `subfolder`, `dtype`, `variant`, ...

        Raises:
            ValueError: If a built-in checkpoint has no such variant, or the files are damaged.
        """
        built_in = find_built_in(name)
        if built_in is not None:
            check_variant(name, kwargs.pop("variant", None))
        with report_load_errors(name):
            loaded = super().from_pretrained(built_in or name, **kwargs)  # type: ignore[misc]
        check_weights(name, loaded[0] if isinstance(loaded, tuple) else loaded)  # `output_loading_info` returns two
        return loaded

    @classmethod
    def load_config(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> Any:
        """Read the configuration of a network; arguments as for `from_pretrained`.

        Raises:
            ValueError: If it is damaged, or no network can have it.
        """
        name = pretrained_model_name_or_path
        with report_load_errors(name):
            found = super().load_config(find_built_in(name) or name, **kwargs)  # type: ignore[misc]
        # With `return_unused_kwargs` there is more than the configuration.
        check_settings(name, found[0] if isinstance(found, tuple) else found, cls)
        return found
