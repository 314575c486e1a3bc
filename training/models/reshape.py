"""Load networks whose channels were pruned: build the recipe's network, then give it the shapes of the saved tensors.

No module is pickled: a network is its recipe and its tensors, whether it was pruned or not.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import nn

Shapes = Mapping[str, Sequence[int]]
"""A tensor's name in the state dict -> its shape."""


def shapes_in(weights: Path) -> dict[str, list[int]]:
    """The shapes of all tensors of a safetensors file; reads only its header.

    Raises:
        OSError: the file cannot be read.
        SafetensorError: the file is damaged.
    """
    with safe_open(str(weights), framework="pt") as file:
        return {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (not iterable)


def changed_shapes(model: nn.Module, plain: nn.Module) -> dict[str, str]:
    """The shapes that differ from the recipe's unpruned network, for run.json: tensor name -> `48x16x3x3`."""
    original = {name: tensor.shape for name, tensor in plain.state_dict().items()}
    return {
        name: "x".join(map(str, tensor.shape))
        for name, tensor in model.state_dict().items()
        if name in original and tensor.shape != original[name]
    }


def reshape(model: nn.Module, shapes: Shapes) -> None:
    """Give convolutions, batch norms and linear layers the shapes of a state dict; new tensors are not initialised.

    Other differences (names, numbers of dimensions) are not changed: loading refuses them. A depthwise convolution
    stays depthwise: its groups follow its channels. Also works on the `meta` device.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.Linear) and _replace(module, name, shapes):
            _update_attributes(module)


def _replace(module: nn.Module, name: str, shapes: Shapes) -> bool:
    changed = False
    for key, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
        shape = shapes.get(f"{name}.{key}" if name else key, tensor.shape)
        if len(shape) == tensor.dim() and list(shape) != list(tensor.shape):
            empty = tensor.detach().new_empty(tuple(shape))
            setattr(module, key, nn.Parameter(empty) if isinstance(tensor, nn.Parameter) else empty)
            changed = True
    return changed


def _update_attributes(module: Any) -> None:
    """Set the attributes that repeat a layer's sizes."""
    if isinstance(module, nn.BatchNorm2d):
        module.num_features = module.running_mean.numel() if module.running_mean is not None else module.num_features
        return
    outputs, inputs = module.weight.shape[:2]
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = outputs, inputs
        return
    if 1 < module.groups == module.in_channels:
        module.groups = outputs // (module.out_channels // module.groups)
    module.out_channels, module.in_channels = outputs, inputs * module.groups
