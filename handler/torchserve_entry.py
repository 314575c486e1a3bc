"""The archive's entry point. TorchServe loads only a class that this file *defines*, not an imported one."""

from handler.service import ClassifierService


class Classifier(ClassifierService):
    """The class that TorchServe finds in this file."""
