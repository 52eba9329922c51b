"""TODO doc: from any_image_model, convert_to_onnx"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from export.any_image import AnyImageError, any_image_model
from export.onnx_file import opset_of, summary, write
from export.varied_pictures import grey_of, varied_pictures
from files.atomic import atomic_write, scratch_folder
from files.command_line import InputError
from images.normalization import normalize
from images.normalization_graph import normalization_model
from inference.confidence import Confidence
from inference.recognizer import Recognizer, single_thread

PICTURES = 1000  # compared before a file gets its name
SAME_TOP1 = 0.999  # the least share of them
SAME_PIXEL = 0.01  # largest difference of a normalised pixel …
UNLIKE = 0.01  # … in all but this share: where rounding moves a value across a threshold, a pixel turns
SAME_PROBABILITY = 1e-4  # largest difference from the softmax of the file's own logits


@dataclass
class Proof:
    """What the comparison found; `worst` and `usual`: the largest pixel difference in any and in the median picture."""

    pictures: int
    same_top1: int
    worst: float
    usual: float
    unlike: int

    def __str__(self) -> str:
        return (
            f"top-1 as by normalization.py on {self.same_top1:,} of {self.pictures:,} varied pictures; "
            f"largest difference of a normalised pixel {self.worst:.1e} (median picture {self.usual:.1e}, "
            f"above {SAME_PIXEL} in {self.unlike})"
        )


def check_reading(
    session: onnxruntime.InferenceSession, images: np.ndarray, blank: bool, confidence: Confidence
) -> np.ndarray:
    """The logits (N, classes) of pictures uint8 (N, H, W, C), after a look at the other outputs beside them."""
    shares, classes, logits = session.run(["probabilities", "classes", "logits"], {"image": images})
    expected = np.take_along_axis(confidence.probabilities(logits), classes, axis=1)
    ordered = (np.diff(shares, axis=1) <= 0).all() and (classes[:, 0] == logits.argmax(axis=1)).all()
    if not np.isfinite(logits).all() or not ordered or np.abs(shares - expected).max() > SAME_PROBABILITY:
        raise AnyImageError(f"probabilities and classes do not fit the logits of a picture of {images.shape[1:]}")
    if blank and logits.any():
        raise AnyImageError(f"a picture of {images.shape[1:]} without ink is read as something")
    return logits


def prove(path: Path, original: Path, count: int | None = None) -> Proof:
    """Compares a file that takes pictures with normalization.py and the `original` model on varied pictures.

    Raises AnyImageError where they differ in more than rounding.
    """
    recognizer, session = Recognizer(original), single_thread(path)
    normalization = single_thread(normalization_model(opset_of(onnx.load(path))).SerializeToString())
    same, differences, pictures = 0, [], list(varied_pictures(recognizer.classes, count or PICTURES))
    for picture in pictures:
        expected = normalize(grey_of(picture))[None]
        found = normalization.run(None, {"image": picture[None]})[0]
        differences.append(float(np.abs(found - expected).max()))
        logits = check_reading(session, picture[None], not expected.any(), recognizer.confidence)
        same += not expected.any() or int(logits.argmax()) == int(recognizer.logits(expected).argmax())
    check_batch(session, pictures[-1], recognizer.confidence)
    proof = Proof(
        len(pictures), same, max(differences), float(np.median(differences)), sum(d > SAME_PIXEL for d in differences)
    )
    if not same >= SAME_TOP1 * len(pictures) or not proof.unlike <= UNLIKE * len(pictures):
        raise AnyImageError(str(proof))
    return proof


def check_batch(session: onnxruntime.InferenceSession, picture: np.ndarray, confidence: Confidence) -> None:
    """Raises AnyImageError if pictures together are read otherwise than each by itself."""
    together = np.stack([picture, picture[::-1], picture[:, ::-1]])
    alone = np.concatenate([check_reading(session, one[None], False, confidence) for one in together])
    if np.abs(check_reading(session, together, False, confidence) - alone).max() > 1e-3:
        raise AnyImageError("pictures together are read otherwise than each by itself")


DEFAULT_TOP = 10


def convert_any_image(model_path: Path, output: Path, data_dir: Path | None, opset: int, top: int) -> str:
    """Puts the normalisation before a trained model or an ONNX file, compares, names the file; returns one line."""
    with scratch_folder(output) as folder, atomic_write(output) as temporary:
        original, found = model_path, []
        if model_path.suffix.lower() != ".onnx":
            original = folder / "model.onnx"
            found.append(write(model_path, original, data_dir, opset))
        elif Recognizer(model_path).takes_pictures:
            raise InputError(f"{model_path} takes pictures already")
        onnx.save(any_image_model(onnx.load(original), top), temporary)
        found.append(str(prove(temporary, original)))
    return "; ".join([summary(output), *found])
