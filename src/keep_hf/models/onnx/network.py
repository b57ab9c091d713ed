"""A network from an ONNX file as a model of diffusers: saved as safetensors, loaded from a folder or the Hub."""

from inspect import signature
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from diffusers import ConfigMixin, ModelMixin
from torch import nn

from ...downloads.hub import download_network
from ...downloads.options import DownloadOptions
from .conversion import Converter
from .layers import LAYERS
from .onnx_file import Graph, read_onnx


Network = TypeVar("Network", bound="OnnxNetwork")


class OnnxNetwork(ModelMixin, ConfigMixin):
    """Layers that a configuration describes; the base class of networks that come from ONNX files.

    A subclass takes `graph` and `outputs` as the first arguments, and the settings of the network after them.

    Args:
        graph (`list[dict]`):
            `kind`, `inputs` and `arguments` of every layer, see [`keep_hf.models.onnx.conversion.Layer`].
        outputs (`list[int]`):
            Where the outputs come from: 0 for the input of the network, `i` for the output of layer `i - 1`.

    Attributes:
        purpose (`str`): What the network is for, for errors.
        default_size (`int`): Height and width of its images, where the ONNX file does not name them.
    """

    purpose: ClassVar[str]
    default_size: ClassVar[int]

    def __init__(self, graph: list[dict[str, Any]], outputs: list[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(LAYERS[layer["kind"]](**layer["arguments"]) for layer in graph)
        self.sources = [tuple(layer["inputs"]) for layer in graph]
        self.outputs = tuple(outputs)
        # A value is dropped after its last use.
        last_use = {place: i for i, places in enumerate(self.sources) for place in places}
        self.dropped = [
            [p for p in set(places) - set(outputs) if last_use[p] == i] for i, places in enumerate(self.sources)
        ]

    def run(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Run the layers.

        Args:
            images (`torch.Tensor` of shape `(b, 3, h, w)`): Input of the network.

        Returns:
            `list[torch.Tensor]`: the outputs.
        """
        # Most of the work is in 1 x 1 and depthwise convolutions, which are fastest with channels last.
        values = {0: images.contiguous(memory_format=torch.channels_last)}
        for i, (layer, sources, dropped) in enumerate(zip(self.layers, self.sources, self.dropped, strict=True)):
            values[i + 1] = layer(*(values[place] for place in sources))
            for place in dropped:
                del values[place]
        return [values[place] for place in self.outputs]

    @classmethod
    def from_pretrained(cls: type[Network], name: str | Path, **kwargs: Any) -> Network:
        """Load a network from a folder, a repository on the Hub or an ONNX file.

        Args:
            name (`str` or `Path`):
                Folder or Hub id of a saved network or with an ONNX file; or the path of an ONNX file.
            kwargs:
                Settings of the network, and options of `ModelMixin.from_pretrained` such as `dtype`, `revision`,
                `cache_dir`, `token`, `local_files_only` and `subfolder`.

        Returns:
            The network.

        Raises:
            ValueError: If there is no network, or it is one of another kind.
            OSError: If a repository is not in the cache and cannot be downloaded.
        """
        file = Path(name)
        if file.suffix != ".onnx":
            folder = cls._locate(name, kwargs)
            if (folder / "config.json").is_file():
                return super().from_pretrained(folder, **kwargs)
            file = cls._find_file(folder, str(name))
        settings = {key: kwargs[key] for key in signature(cls).parameters if key in kwargs}
        network = cls.from_single_file(file, **settings)
        # ModelMixin.to warns about modules to keep in float32; there are none.
        nn.Module.to(network, kwargs.get("dtype") or kwargs.get("torch_dtype"))
        return network

    @classmethod
    def from_single_file(cls: type[Network], path: str | Path, **settings: Any) -> Network:
        """Convert an ONNX file.

        Args:
            path (`str` or `Path`):
                ONNX file.
            settings:
                Settings of the network, see the class.

        Returns:
            The network.

        Raises:
            ValueError: If the file does not exist, is damaged, contains an operator that is not supported, or is
                another kind of network.
        """
        file = read_onnx(path)
        try:
            converter = Converter(file, cls._select_outputs(file), settings.get("input_size", cls.default_size))
        except (ValueError, KeyError, IndexError, TypeError, RuntimeError) as error:
            raise ValueError(f"{path} cannot be used as a {cls.purpose} network: {error}.") from error
        graph = [
            {"kind": layer.kind, "inputs": layer.inputs, "arguments": layer.arguments} for layer in converter.layers
        ]
        network = cls(graph=graph, outputs=converter.outputs, **settings)
        for module, layer in zip(network.layers, converter.layers, strict=True):
            module.load_state_dict(layer.weights)
        return network.eval()

    @classmethod
    def _locate(cls, name: str | Path, options: dict[str, Any]) -> Path:
        """Return the folder of a network, downloaded if it is on the Hub; `subfolder` is removed from the options."""
        subfolder = options.pop("subfolder", None) or ""
        if Path(name).is_dir():
            return Path(name) / subfolder
        if Path(name).is_file():
            raise ValueError(f"{name} is no .onnx file: pass one, a folder, or a repository on the Hub.")
        patterns = [f"{subfolder}/{pattern}".lstrip("/") for pattern in ("config.json", "*.safetensors", "*.onnx")]
        downloads = DownloadOptions.from_arguments(options)
        return download_network(str(name), cls.purpose, downloads, patterns, None if subfolder else "*/*") / subfolder

    @classmethod
    def _select_outputs(cls, graph: Graph) -> list[str]:
        """Return the names of the values of a graph that the network outputs."""
        return graph.outputs

    @classmethod
    def _find_file(cls, folder: Path, name: str) -> Path:
        """Return the ONNX file of a folder; `name` is that of the folder or repository, for errors."""
        files = sorted(folder.glob("*.onnx"))
        if len(files) != 1:
            found = ", ".join(file.name for file in files) or "none"
            raise ValueError(
                f"{name!r} must contain a saved network or one .onnx file, found {found}: pass the path of the file."
            )
        return files[0]
