"""The file that lies at the archive's root, because TorchServe loads the class that it *defines*."""

from handler.service import ClassifierService


class Classifier(ClassifierService):
    """The one class that TorchServe finds in this file."""
