"""What does a model say about a chip?"""

import hashlib
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from pipeline.errors import ModelUnusable
from pipeline.raster_prediction.models import Model

_REMEDY = "The operator mends the model's folder; docs/rasters.md says what belongs there."


class Network:
    """A model, loaded.

    Args:
        model: Its manifest.
        folder: Its folder.
        threads: How many it may use.

    Raises:
        ModelUnusable: If the file is not the one that the manifest means, or no model of one input and one output.
    """

    def __init__(self, model: Model, folder: Path, *, threads: int) -> None:
        self._model = model
        try:
            content = (folder / model.file).read_bytes()
        except OSError as error:
            raise self._unusable(f"its file cannot be read ({error.strerror})") from None
        if (found := hashlib.sha256(content).hexdigest()) != model.sha256:
            raise self._unusable(f"the sha256 of its file is {found}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        try:
            # From the bytes that were checked: such a model cannot name further files.
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise self._unusable(f"onnxruntime does not take it: {' '.join(str(error).split())[:300]}") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise self._unusable(f"it has {len(inputs)} inputs and {len(outputs)} outputs; one each is supported")
        self._input = inputs[0].name

    def predict(self, layers: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a model's answer for each cell of a chip, shape (channels, rows, columns).

        For classes these are shares that add up to 1, else it is the value.

        Args:
            layers: Shape (time steps x bands, rows, columns), the bands of each step together; NaN where nothing was
                seen.

        Raises:
            ModelUnusable: If the model cannot be run, or what comes out is not what the manifest says.
        """
        model = self._model
        given = self._normalised(layers)
        try:
            answer = np.asarray(self._session.run(None, {self._input: given})[0])
        except Exception as error:
            raise self._unusable(f"it cannot be run: {' '.join(str(error).split())[:300]}") from error
        raw = answer.astype(np.float64)
        raw = raw[0] if raw.ndim == 4 and raw.shape[0] == 1 else raw
        wanted = (model.channels, *layers.shape[1:])
        if model.output != "value" and model.channels == 2 and raw.shape == (1, *layers.shape[1:]):
            raw = _both(raw, model.output)  # a lone channel is the second class
        elif raw.shape != wanted:
            raise self._unusable(f"what comes out has the shape {answer.shape}, not {(1, *wanted)}")
        elif model.output == "logits":
            raw = np.exp(raw - raw.max(axis=0))
            raw /= raw.sum(axis=0)
        if not np.isfinite(raw).all():
            raise self._unusable("what comes out holds NaN or Infinity")
        return raw.astype(np.float32)

    def _normalised(self, layers: NDArray[np.float32]) -> NDArray[np.float32]:
        model = self._model
        depth = len(model.bands)
        steps = layers.reshape(-1, depth, *layers.shape[1:])
        mean = np.asarray(model.mean or [0.0] * depth, np.float32)[:, None, None]
        std = np.asarray(model.std or [1.0] * depth, np.float32)[:, None, None]
        scaled = (steps - mean) / std
        scaled[np.isnan(scaled)] = model.fill
        if model.layout == "NCTHW":
            return np.ascontiguousarray(scaled.transpose(1, 0, 2, 3)[None])
        return scaled.reshape(1, -1, *layers.shape[1:])

    def _unusable(self, why: str) -> ModelUnusable:
        return ModelUnusable(f"The model {self._model.name} cannot be used: {why}.", label="model", remedy=_REMEDY)


def _both(raw: NDArray[np.float64], output: str) -> NDArray[np.float64]:
    second = 1 / (1 + np.exp(-raw)) if output == "logits" else raw
    return np.concatenate([1 - second, second])
