"""An exported model on onnxruntime: its session, what its file says, the logits of pictures."""

import argparse
import re
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as onnxruntime_errors

from characters.confusable import FILE_NAME as CONFUSABLE
from files.command_line import InputError, first_line
from files.machine import quota_threads
from files.packages import check
from files.plain_json import parse_json
from images.normalization import CANVAS, normalize
from inference.confidence import confidence_of

MODELS = Path(__file__).resolve().parents[2] / "models"
INT8 = "int8_quantized_quantized_int8_onnx_opset14.onnx"
RELEASED = MODELS / f"hiercode_{INT8}"
OWN = Path("models/kanji_model.onnx")
SHORT_NAMES = {  # of the released INT8 files, in MODELS
    "hiercode": RELEASED.name,
    "all": "released/hiercode_all_int8.onnx",
    "cnn": f"released/cnn_{INT8}",
    "rnn": f"released/radical_rnn_{INT8}",
    "vit": f"released/vit_{INT8}",
}
HARDLY_TRAINED = 80  # top-1 in %, on validation or test samples, below which a model is no reader yet
# onnxruntime's own errors have no common parent but Exception; names in a damaged file may be no UTF-8.
_DAMAGED = (RuntimeError, UnicodeDecodeError)
_DAMAGED += tuple(e for e in vars(onnxruntime_errors).values() if isinstance(e, type) and issubclass(e, Exception))
_TOO_NEW = re.compile("Unsupported model IR version|official support for domain .* is till opset")


def single_thread(model: Path | bytes, optimised: Path | None = None) -> onnxruntime.InferenceSession:
    """A session on one thread of the processor; writes onnxruntime's optimised graph to `optimised`, if given."""
    return _session(model, 1, ["CPUExecutionProvider"], optimised)


def _session(model: Path | bytes, threads: int, providers: list[str], optimised: Path | None = None):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4  # errors are raised, not printed
    # Threads that spin while they wait would take the cores from PyTorch's, where a file teaches a training.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if optimised:
        options.optimized_model_filepath = str(optimised)
    # Its own fallback would print that it tries again, for damaged files too.
    return onnxruntime.InferenceSession(model, options, providers=providers, enable_fallback=0)


class Recognizer:
    """An exported model: its `classes`, `confidence` in its logits, the other `facts` of its file, whether it
    `takes_pictures` (the normalisation is part of the file), and the logits of pictures or of normalised images.

    `threads`: how many onnxruntime computes with; 0 leaves it the choice, within a container's quota. Raises
    FileNotFoundError, or InputError for a file that is no model of this toolkit or reads no blank picture."""

    def __init__(self, path: Path, threads: int = 0):
        if not path.is_file():
            what = "a folder" if path.is_dir() else "missing"
            raise FileNotFoundError(f"{path} is {what}: export a model with scripts/convert_to_onnx.py")
        check("numpy", np.__version__)
        check("onnxruntime", onnxruntime.__version__)
        self.path, threads = path, threads or quota_threads()
        try:
            try:
                self.session = _session(path, threads, onnxruntime.get_available_providers())
            except _DAMAGED:  # also where the driver of a GPU does not start
                self.session = _session(path, threads, ["CPUExecutionProvider"])
            self.facts = self.session.get_modelmeta().custom_metadata_map
            inputs = [(i.name, i.type, list(i.shape[1:])) for i in self.session.get_inputs()]
        except _DAMAGED as error:
            if _TOO_NEW.search(str(error)):
                remedy = "pip install -U onnxruntime"
                raise InputError(f"{path} is too new for onnxruntime {onnxruntime.__version__}: {remedy}") from None
            remedy = "scripts/convert_to_onnx.py makes one"
            raise InputError(f"{path} is not an ONNX model, or is damaged: {remedy}") from None
        self.classes = self.facts.get("classes", "")
        self.confidence = confidence_of(self.facts.get("confidence"), path)
        self.takes_pictures = [i[:2] for i in inputs] == [("image", "tensor(uint8)")]
        normalised = inputs == [("input_image", "tensor(float)", [1, CANVAS, CANVAS])]
        distinct = 0 < len(set(self.classes)) == len(self.classes) and self.classes.isprintable()
        if not distinct or not (self.takes_pictures or normalised):
            what = "it does not name distinct classes, and take an input_image or image"
            raise InputError(f"{path} is not a model of this toolkit, or is damaged: {what}")
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

    def __str__(self) -> str:
        """The file, how many characters it reads, and what it was trained on."""
        source = self.facts.get("source")
        return f"{self.path}: {len(self.classes):,} characters" + (f", trained on {source}" if source else "")

    @property
    def config(self) -> dict:
        """The settings that it was trained with, as far as its file says them."""
        return parse_json(self.facts.get("config") or "{}", f"{self.path}: config", "export it again")

    def hardly_trained(self) -> str:
        """How little of its own test or validation samples it reads, "" for a file that says enough or nothing. What it
        says is of those samples alone: no figure to compare models by."""
        metrics = parse_json(self.facts.get("metrics") or "{}", f"{self.path}: metrics", "export it again")
        values = [metrics.get(name) for name in ("test_top1", "validation_top1")]
        top1 = next((value for value in values if isinstance(value, int | float)), HARDLY_TRAINED)
        return f"{top1:.2f} % of its held-out samples" if top1 < HARDLY_TRAINED else ""

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


def model_path(name: str) -> Path:
    """The path of a model, or of the released INT8 file with this short name, one of SHORT_NAMES."""
    if name not in SHORT_NAMES and not Path(name).suffix and not Path(name).exists():
        raise argparse.ArgumentTypeError(f"{name} is neither a model file nor one of {', '.join(SHORT_NAMES)}")
    return MODELS / SHORT_NAMES[name] if name in SHORT_NAMES else Path(name)


def default_model() -> Path:
    """One's own model, or else the released one."""
    return OWN if OWN.is_file() else RELEASED


def confusable_path(model: Path) -> Path:
    """A model's own MODEL_confusable.json, or else the confusable.json beside it, or in released/ where the model is
    the released one in models/."""
    if (own := model.with_name(f"{model.stem}_{CONFUSABLE}")).is_file():
        return own
    return (model.parent / "released" if model.resolve() == RELEASED else model.parent) / CONFUSABLE
