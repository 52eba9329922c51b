"""TODO doc: from recognize, any_image_model"""

import functools
import threading
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as onnxruntime_errors

from files.command_line import InputError, first_line
from images.normalization import CANVAS, normalize
from inference.confidence import confidence_of

RELEASED = Path(__file__).resolve().parents[2] / "models/released/cnn_int8_quantized_quantized_int8_onnx_opset14.onnx"
DEFAULT_MODELS = (Path("models/kanji_model.onnx"), RELEASED)  # one's own first
MOST_MEMORY = 768 << 20  # bytes that a model may take; those of this toolkit take a tenth
LONGEST_TRIAL = 8.0  # seconds for a blank picture, after which a model is refused; one of this toolkit takes 0.02
NO_MODEL = (RuntimeError, UnicodeDecodeError)
NO_MODEL += tuple(e for e in vars(onnxruntime_errors).values() if isinstance(e, type) and issubclass(e, Exception))


@functools.cache
def limited_memory() -> None:
    """Makes onnxruntime refuse a model that asks for more than MOST_MEMORY on the processor."""
    where = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    how = onnxruntime.OrtArenaCfg({"max_mem": MOST_MEMORY, "arena_extend_strategy": 1})  # 1: no more than is asked for
    onnxruntime.create_and_register_allocator(where, how)


def open_session(path: Path, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """A session on what onnxruntime finds here, or, where that does not start, on the processor.

    onnxruntime would try again by itself, and print that it does, for damaged files too.
    """
    start = functools.partial(onnxruntime.InferenceSession, str(path), options, enable_fallback=0)
    try:
        return start(providers=onnxruntime.get_available_providers())
    except NO_MODEL:
        return start(providers=["CPUExecutionProvider"])


class Recognizer:
    """An exported model: its `classes`, the logits of pictures or of normalised images, how far they can be trusted
    (`confidence`), and what else its file says.

    `takes_pictures`: whether the normalisation is in the file (convert_to_onnx.py --any-image).
    `threads`: how many onnxruntime computes with (default: its own choice).
    Raises FileNotFoundError, or InputError for a file that is no model of this toolkit, does not read a blank picture
    in LONGEST_TRIAL seconds, or gives another number of logits than it names classes.
    """

    def __init__(self, path: Path, threads: int = 0):
        if not path.is_file():
            what = "a folder" if path.is_dir() else "missing"
            raise FileNotFoundError(f"{path} is {what}: export a model with scripts/convert_to_onnx.py")
        self.path = path
        limited_memory()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # it is this class that says what is wrong
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.intra_op_num_threads = threads
        try:
            self.session = open_session(path, options)
            self.facts = self.session.get_modelmeta().custom_metadata_map
            inputs, outputs = self.session.get_inputs(), [output.name for output in self.session.get_outputs()]
            taken = [(i.name, i.type, len(i.shape)) for i in inputs]
        except NO_MODEL:
            raise InputError(
                f"{path} is not an ONNX model, or is damaged: scripts/convert_to_onnx.py makes one"
            ) from None
        self.classes = self.facts.get("classes", "")
        self.confidence = confidence_of(self.facts.get("confidence"), path)
        self.takes_pictures = taken == [("image", "tensor(uint8)", 4)]
        normalised = taken == [("input_image", "tensor(float)", 4)] and inputs[0].shape[1:] == [1, CANVAS, CANVAS]
        if not self.classes or "logits" not in outputs or not (self.takes_pictures or normalised):
            raise InputError(
                f"{path} is not a model of this toolkit: it does not name its classes and its input_image or image"
            )
        if len(set(self.classes)) < len(self.classes) or not self.classes.isprintable():
            raise InputError(f"{path} is damaged: its classes are not so many different characters")
        self._try()

    def _try(self) -> None:
        blank = np.zeros((1, CANVAS, CANVAS, 1), np.uint8) if self.takes_pictures else None
        options = onnxruntime.RunOptions()
        clock = threading.Timer(LONGEST_TRIAL, setattr, (options, "terminate", True))
        clock.daemon = True
        clock.start()
        try:
            self._run(np.zeros((1, 1, CANVAS, CANVAS), np.float32) if blank is None else blank, options)
        finally:
            clock.cancel()

    def _run(self, images: np.ndarray, options: onnxruntime.RunOptions | None = None) -> np.ndarray:
        """float32 (N, classes) of what the model takes. Raises InputError where that is not what comes out."""
        try:
            taken = "image" if self.takes_pictures else "input_image"
            logits = self.session.run(["logits"], {taken: images}, options)[0]
        except NO_MODEL as error:
            reason = first_line(error).rpartition(" : ")[2]
            raise InputError(f"{self.path} is a damaged model: it reads no picture ({reason:.200})") from None
        wanted = (len(images), len(self.classes))
        if getattr(logits, "shape", None) != wanted or logits.dtype != np.float32 or not np.isfinite(logits).all():
            raise InputError(f"{self.path} is a damaged model: it does not give {wanted[1]:,} numbers for a picture")
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
    """A session on one thread of the processor, which can write down what onnxruntime makes of the graph."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    if optimised:
        options.optimized_model_filepath = str(optimised)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
