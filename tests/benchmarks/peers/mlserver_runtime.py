"""The model that MLServer serves: onnxruntime with every value exposed."""

import onnxruntime
import turns
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class Exposed(MLModel):
    """Answers with every value."""

    async def load(self):
        """Makes the session."""
        model = turns.exposed(self.settings.parameters.uri)
        self._session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        self._names = [item.name for item in self._session.get_outputs()]
        return True

    async def predict(self, payload):
        """Runs one batch."""
        x = NumpyCodec.decode_input(payload.inputs[0])
        values = self._session.run(self._names, {turns.INPUT: x})
        pairs = zip(self._names, values, strict=True)
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output(name, value) for name, value in pairs]
        )
