"""MLServer as its documentation has it: a custom runtime, here with the V2 protocol's bytes.

mlserver start FOLDER        with settings.json and model-settings.json, see benchmarks/peers/systems.py
"""

from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.peers import work


class Classifier(MLModel):
    """One worker process with one model."""

    async def load(self) -> bool:
        self.classify = work.load()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """A list of photos."""
        photos = StringCodec.decode_input(payload.inputs[0])
        scores = [self.classify(photo) for photo in photos]
        labels = [max(row, key=lambda label: row[label]) for row in scores]
        return InferenceResponse(model_name=self.name, outputs=[StringCodec.encode_output("result", labels)])
