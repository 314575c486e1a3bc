"""The document's model in the three formats that its peers want. Weights do not change speed: random, saved once."""

from pathlib import Path

from benchmarks.peers.work import LABELS, SIZE, eager

FILES = ("document.pth", "document.onnx", "document.pt")


def make(folder: Path) -> None:
    """Write a ResNet-18 with two classes as state dict, ONNX (float input, batch 1) and TorchScript, if they lack."""
    if all((folder / name).is_file() for name in FILES):
        return
    import torch
    from torchvision.models import resnet18

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.save(resnet18(num_classes=len(LABELS)).state_dict(), folder / FILES[0])
    model, photo = eager(folder), torch.zeros(1, 3, *SIZE)
    torch.onnx.export(model, (photo,), str(folder / FILES[1]), dynamo=False, opset_version=17)
    torch.jit.trace(model, photo).save(str(folder / FILES[2]))  # the last: with it the folder is whole
