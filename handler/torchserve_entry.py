"""The archive's entry point. TorchServe loads a class that this file *defines*; an imported one would not do."""

from handler.service import ClassifierService


class Classifier(ClassifierService):
    """The class that TorchServe finds in this file."""
