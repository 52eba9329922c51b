"""An exported model on onnxruntime: its session, what its file says, the logits of pictures."""

import functools
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as onnxruntime_errors

from files.command_line import InputError, first_line
from images.normalization import CANVAS, normalize
from inference.confidence import confidence_of

RELEASED = Path(__file__).resolve().parents[2] / "models/released/cnn_int8_quantized_quantized_int8_onnx_opset14.onnx"
DEFAULT_MODELS = (Path("models/kanji_model.onnx"), RELEASED)  # one's own first
# onnxruntime's own errors have no common parent but Exception; names in a damaged file may be no UTF-8.
_DAMAGED = (RuntimeError, UnicodeDecodeError)
_DAMAGED += tuple(e for e in vars(onnxruntime_errors).values() if isinstance(e, type) and issubclass(e, Exception))


def open_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """A session on the best device that onnxruntime supports here, or, where that does not start, on the processor."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # Recognizer says what is wrong
    options.intra_op_num_threads = threads
    # Its own fallback would print that it tries again, for damaged files too.
    start = functools.partial(onnxruntime.InferenceSession, str(path), options, enable_fallback=0)
    try:
        return start(providers=onnxruntime.get_available_providers())
    except _DAMAGED:
        return start(providers=["CPUExecutionProvider"])


class Recognizer:
    """An exported model: its `classes`, how far its logits can be trusted (`confidence`), the rest of what its file
    says (`facts`), and the logits of pictures or of normalised images.

    `takes_pictures`: whether the normalisation is part of the file (convert_to_onnx.py --any-image).
    `threads`: how many onnxruntime computes with; 0 leaves it the choice.
    Raises FileNotFoundError, or InputError for a file that is no model of this toolkit, or that does not give a finite
    logit for each of its classes when it reads a blank picture.
    """

    def __init__(self, path: Path, threads: int = 0):
        if not path.is_file():
            what = "a folder" if path.is_dir() else "missing"
            raise FileNotFoundError(f"{path} is {what}: export a model with scripts/convert_to_onnx.py")
        self.path = path
        try:
            self.session = open_session(path, threads)
            self.facts = self.session.get_modelmeta().custom_metadata_map
            inputs = [(i.name, i.type, list(i.shape[1:])) for i in self.session.get_inputs()]
            outputs = [output.name for output in self.session.get_outputs()]
        except _DAMAGED:
            raise InputError(
                f"{path} is not an ONNX model, or is damaged: scripts/convert_to_onnx.py makes one"
            ) from None
        self.classes = self.facts.get("classes", "")
        self.confidence = confidence_of(self.facts.get("confidence"), path)
        self.takes_pictures = [i[:2] for i in inputs] == [("image", "tensor(uint8)")]
        normalised = inputs == [("input_image", "tensor(float)", [1, CANVAS, CANVAS])]
        if not self.classes or "logits" not in outputs or not (self.takes_pictures or normalised):
            raise InputError(
                f"{path} is not a model of this toolkit: it does not name its classes and its input_image or image"
            )
        if len(set(self.classes)) < len(self.classes) or not self.classes.isprintable():
            raise InputError(f"{path} is damaged: its classes are not distinct characters")
        self.picture_logits([np.zeros((CANVAS, CANVAS), np.float32)])

    def _run(self, images: np.ndarray) -> np.ndarray:
        """float32 (N, classes) of what the model takes. Raises InputError where that is not what comes out."""
        try:
            logits = self.session.run(["logits"], {"image" if self.takes_pictures else "input_image": images})[0]
        except _DAMAGED as error:
            reason = first_line(error).rpartition(" : ")[2]
            raise InputError(f"{self.path} is a damaged model: it reads no picture ({reason:.200})") from None
        shape = (len(images), len(self.classes))
        if getattr(logits, "shape", None) != shape or logits.dtype != np.float32 or not np.isfinite(logits).all():
            raise InputError(f"{self.path} is a damaged model: it does not give {shape[1]:,} numbers for a picture")
        return logits

    def logits(self, images: np.ndarray) -> np.ndarray:
        """float32 (N, classes) of float32 (N, 1, 64, 64), ink 1 on paper 0."""
        if self.takes_pictures:
            raise InputError(f"{self.path} takes pictures, not normalised images: use the file it was made from")
        return self._run(images)

    def picture_logits(self, grey: list[np.ndarray]) -> np.ndarray:
        """float32 (N, classes) of N pictures, grey values 0 to 255 (H, W) each; 0 for one without ink."""
        if self.takes_pictures:
            return np.concatenate([self._run(picture.astype(np.uint8)[None, :, :, None]) for picture in grey])
        images = np.stack([normalize(picture) for picture in grey])
        return self.logits(images) * images.any(axis=(1, 2, 3))[:, None]


def default_model() -> Path:
    """The first of DEFAULT_MODELS that is there."""
    for path in DEFAULT_MODELS:
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"{DEFAULT_MODELS[0]} is missing: name a model with --model, export one with scripts/convert_to_onnx.py, "
        f"or fetch the released one, {RELEASED}"
    )


def single_thread(model: Path | bytes, optimised: Path | None = None) -> onnxruntime.InferenceSession:
    """A session on one thread of the processor; writes onnxruntime's optimised graph to `optimised`, if given."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    if optimised:
        options.optimized_model_filepath = str(optimised)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
