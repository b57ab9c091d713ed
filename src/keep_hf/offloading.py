"""Networks whose weights are not where they are used: offloaded to the CPU or to the disk, or stored in fewer bits.

accelerate and diffusers keep such weights elsewhere, and bring them back with hooks that run when a module is called.
Three things would go past the hooks:

- methods that are called in place of `forward`, as `encode_lq` and `decode`: see `entry_point`;
- code that asks a network for its device, which is that of the stored weights: see `execution_device`;
- code that reads weights without a call: see `read_weights`.

The hooks are found in the attributes `_hf_hook` (accelerate) and `_diffusers_hook` of a module, as in diffusers' own
models and pipelines.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, TypeVar

import torch
from torch import nn


Method = TypeVar("Method", bound=Callable[..., Any])


def entry_point(method: Method) -> Method:
    """Run a method of a network under the hooks of the network, as `forward` runs under them."""

    @functools.wraps(method)
    def run(network: nn.Module, *args: Any, **kwargs: Any) -> Any:
        hooks = _find_hooks(network)
        for hook in hooks:
            args, kwargs = hook.pre_forward(network, *args, **kwargs)
        output = method(network, *args, **kwargs)
        for hook in reversed(hooks):
            output = hook.post_forward(network, output)
        return output

    return run  # type: ignore[return-value]


def _find_hooks(network: nn.Module) -> list[Any]:
    """The hooks of a module itself, from the outermost to the innermost; the later one is registered around others."""
    registry: Any = getattr(network, "_diffusers_hook", None)
    hooks = [] if registry is None else [registry.hooks[name] for name in reversed(registry._hook_order)]
    return [*hooks, network._hf_hook] if hasattr(network, "_hf_hook") else hooks


def execution_device(network: nn.Module) -> torch.device:
    """The device on which a network computes; its weights can be elsewhere until they are used."""
    for module in network.modules():
        device = getattr(getattr(module, "_hf_hook", None), "execution_device", None)
        if device is not None:
            return torch.device(device)
    return network.device  # type: ignore[return-value]  # diffusers knows where its own hooks compute


def read_weights(network: nn.Module) -> Iterator[torch.Tensor]:
    """Read all weights on the CPU, in the order of the state dict.

    Raises:
        ValueError: If a weight has no values, because the network was created on the device "meta".
    """
    with ExitStack() as stack:
        for group in _find_groups_on_disk(network):
            group.onload_()
            stack.callback(group.offload_)
        for name, weight in network.state_dict().items():
            if weight.is_meta:
                weight = _find_offloaded(network, name)
            yield weight.detach().cpu()


def _find_offloaded(network: nn.Module, name: str) -> torch.Tensor:
    """The weight that accelerate has put elsewhere, in place of one without values."""
    owner, _, attribute = name.rpartition(".")
    hook = getattr(network.get_submodule(owner), "_hf_hook", None)
    for part in getattr(hook, "hooks", [hook]):
        if getattr(part, "weights_map", None) is not None:
            return part.weights_map[attribute]
    raise ValueError(
        f"The weight {name} of {type(network).__name__} has no values (it is on the device 'meta'): load the weights "
        "first."
    )


def _find_groups_on_disk(network: nn.Module) -> list[Any]:
    """Groups of modules that diffusers' group offloading keeps on the disk; their tensors have the shape only."""
    registries: list[Any] = [
        module._diffusers_hook for module in network.modules() if hasattr(module, "_diffusers_hook")
    ]
    hooks = [registry.get_hook("group_offloading") for registry in registries]
    groups = {id(hook.group): hook.group for hook in hooks if hook is not None}
    return [group for group in groups.values() if group.offload_to_disk_path is not None]
