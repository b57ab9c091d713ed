"""Published checkpoint files of the baselines: safe reading, dialects of keys, sizes, and weights that do not fit."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from torch import nn

from keep_hf.models.checkpoint_files import StateDict, load_checkpoint


# How releases wrap their weights: BasicSR and GFPGAN; mmediting and Lightning; StyleGAN2 and GPEN.
WRAPPERS = ("params_ema", "params", "state_dict", "g_ema")

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Checkpoint:
    """The weights of a file, by the names of the network that it is meant for.

    Args:
        path (`Path`): The file, for messages.
        network (`str`): Name of the network, for messages.
        weights (`dict[str, torch.Tensor]`): Weights by name.
    """

    path: Path
    network: str
    weights: StateDict

    @classmethod
    def read(cls, path: str | Path, network: str, prefix: str | None = None) -> "Checkpoint":
        """Read a file with `weights_only=True`, so that no code from it runs.

        Args:
            path (`str` or `Path`): A `.pth`, `.ckpt` or `.safetensors` file.
            network (`str`): Name of the network, for messages.
            prefix (`str`, *optional*): Prefix of the weights of the network in files that contain others, too. In a
                file with such names, the other weights are dropped; a file without them is taken as a whole.

        Raises:
            ValueError: If the file is missing, damaged, or not a state dict.
        """
        weights = load_checkpoint(path, WRAPPERS)
        if prefix and any(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        return cls(Path(path), network, weights)

    def rename(self, rules: Mapping[str, str]) -> "Checkpoint":
        """Translate the names of another dialect: every regular expression is replaced, in the order of the rules."""
        weights = {}
        for name, value in self.weights.items():
            for pattern, replacement in rules.items():
                name = re.sub(pattern, replacement, name)
            weights[name] = value
        return Checkpoint(self.path, self.network, weights)

    def without(self, prefixes: tuple[str, ...]) -> "Checkpoint":
        """Drop the weights whose names begin with a prefix."""
        weights = {name: value for name, value in self.weights.items() if not name.startswith(prefixes)}
        return Checkpoint(self.path, self.network, weights)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a weight.

        Raises:
            ValueError: If the file has no such weight.
        """
        if name not in self.weights:
            raise ValueError(f"{self.path} is not a checkpoint of {self.network}: it has no weight {name!r}.")
        return tuple(self.weights[name].shape)

    def count(self, prefix: str) -> int:
        """Number of numbered parts: of names `PREFIX.0...`, `PREFIX.1...` and so on."""
        pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.")
        return len({match[1] for name in self.weights if (match := pattern.match(name))})

    def load_into(self, network: Network) -> Network:
        """Fill a network and return it in evaluation mode.

        Raises:
            ValueError: If weights are missing, unknown or of another shape.
        """
        expected = network.state_dict()
        shared = expected.keys() & self.weights.keys()
        misfits = {
            "missing": sorted(expected.keys() - shared),
            "unknown": sorted(self.weights.keys() - shared),
            "of another shape": sorted(name for name in shared if self.weights[name].shape != expected[name].shape),
        }
        found = [f"{len(names)} weights are {kind} ({names[0]})" for kind, names in misfits.items() if names]
        if found:
            raise ValueError(f"{self.path} is not a checkpoint of {self.network}: {', '.join(found)}.")
        network.load_state_dict(self.weights)
        return network.eval()
