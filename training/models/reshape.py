"""Networks whose channels were pruned: built as the recipe says, then given the shapes of the saved tensors.

No module is pickled. A network is its recipe and its tensors, so what was saved before pruning existed loads
as what was saved after it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import nn

Shapes = Mapping[str, Sequence[int]]
"""A tensor's name in the state dict -> its shape."""


def shapes_in(weights: Path) -> dict[str, list[int]]:
    """The shapes of all tensors of a safetensors file; reads its header alone.

    Raises:
        OSError: it cannot be read.
        SafetensorError: it is damaged.
    """
    with safe_open(str(weights), framework="pt") as file:
        return {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (not iterable)


def changed_shapes(model: nn.Module, plain: nn.Module) -> dict[str, str]:
    """The shapes in which a model differs from its recipe's own network, for run.json: `48x16x3x3` by name."""
    own = {name: tensor.shape for name, tensor in plain.state_dict().items()}
    return {
        name: "x".join(map(str, tensor.shape))
        for name, tensor in model.state_dict().items()
        if tensor.shape != own[name]
    }


def reshape(model: nn.Module, shapes: Shapes) -> None:
    """Give convolutions, batch norms and linear layers the shapes of a state dict; new tensors are not initialised.

    Names and numbers of dimensions that differ are left for the loading to refuse. A depthwise convolution
    stays depthwise: its groups follow its channels. Works on the `meta` device, too.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.Linear) and _replace(module, name, shapes):
            _tell(module)


def _replace(module: nn.Module, name: str, shapes: Shapes) -> bool:
    changed = False
    for key, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
        wanted = shapes.get(f"{name}.{key}" if name else key, tensor.shape)
        if len(wanted) == tensor.dim() and list(wanted) != list(tensor.shape):
            fresh = tensor.detach().new_empty(tuple(wanted))
            setattr(module, key, nn.Parameter(fresh) if isinstance(tensor, nn.Parameter) else fresh)
            changed = True
    return changed


def _tell(module: Any) -> None:
    """Write a layer's new widths where the layer and its readers look for them."""
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
