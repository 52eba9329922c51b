"""The proof that a file for any image reads pictures as normalization.py and the model it was made from do."""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from tqdm import tqdm

from export.any_image import any_image_model
from export.onnx_file import ConversionError, opset_of, summary, write
from export.varied_pictures import grey_of, varied_pictures
from files.atomic import atomic_write, scratch_folder
from files.command_line import InputError
from images.normalization import normalize
from images.normalization_graph import normalization_model
from inference.confidence import Confidence
from inference.recognizer import Recognizer, single_thread

DEFAULT_TOP = 10
PICTURES = 1000  # compared before a file gets its name
SAME_TOP1 = 0.999  # the least share of them
SAME_PIXEL = 0.01  # largest difference of a normalised pixel …
UNLIKE = 0.01  # … in all but this share: where rounding moves a value across a threshold, a pixel turns
SAME_PROBABILITY = 1e-4  # largest difference from the softmax of the file's own logits
SAME_IN_BATCH = 1e-3  # largest difference of a logit between a picture alone and among others


def checked_logits(session: onnxruntime.InferenceSession, images: np.ndarray, confidence: Confidence) -> np.ndarray:
    """The logits (N, classes) of pictures uint8 (N, H, W, C).

    Raises ConversionError unless the other outputs fit them.
    """
    shares, classes, logits = session.run(["probabilities", "classes", "logits"], {"image": images})
    expected = np.take_along_axis(confidence.probabilities(logits), classes, axis=1)
    ordered = (np.diff(shares, axis=1) <= 0).all() and (classes[:, 0] == logits.argmax(axis=1)).all()
    if not np.isfinite(logits).all() or not ordered or np.abs(shares - expected).max() > SAME_PROBABILITY:
        raise ConversionError(f"probabilities and classes do not fit the logits of a picture of {images.shape[1:]}")
    return logits


def check_batch(session: onnxruntime.InferenceSession, picture: np.ndarray, confidence: Confidence) -> None:
    """Raises ConversionError if pictures together are read otherwise than each by itself."""
    together = np.stack([picture, picture[::-1], picture[:, ::-1]])
    alone = np.concatenate([checked_logits(session, one[None], confidence) for one in together])
    if np.abs(checked_logits(session, together, confidence) - alone).max() > SAME_IN_BATCH:
        raise ConversionError("pictures together are read otherwise than each by itself")


def prove(path: Path, original: Path, count: int | None = None) -> str:
    """Compares a file for any image with normalization.py and the `original` model on varied pictures; one line.

    Raises ConversionError where they differ in more than rounding.
    """
    recognizer, session = Recognizer(original), single_thread(path)
    normalization = single_thread(normalization_model(opset_of(onnx.load(path))).SerializeToString())
    same, differences, pictures = 0, [], list(varied_pictures(recognizer.classes, count or PICTURES))
    for picture in tqdm(pictures, desc="comparing", leave=False, disable=not sys.stderr.isatty()):
        expected = normalize(grey_of(picture))[None]
        differences.append(float(np.abs(normalization.run(None, {"image": picture[None]})[0] - expected).max()))
        logits = checked_logits(session, picture[None], recognizer.confidence)
        if expected.any():
            same += int(logits.argmax()) == int(recognizer.logits(expected).argmax())
        elif logits.any():
            raise ConversionError(f"a picture of {picture.shape} without ink is read as something")
        else:
            same += 1
    check_batch(session, pictures[-1], recognizer.confidence)
    unlike = sum(difference > SAME_PIXEL for difference in differences)
    comparison = (
        f"top-1 as by normalization.py on {same:,} of {len(pictures):,} varied pictures; largest difference of a "
        f"normalised pixel {max(differences):.1e} (median picture {np.median(differences):.1e}, above {SAME_PIXEL} in "
        f"{unlike})"
    )
    if same < SAME_TOP1 * len(pictures) or unlike > UNLIKE * len(pictures):
        raise ConversionError(comparison)
    return comparison


def convert_any_image(model_path: Path, output: Path, data_dir: Path | None, opset: int, top: int) -> str:
    """Puts the normalisation before a trained model or an ONNX file, compares, names the file; returns one line."""
    with scratch_folder(output) as folder, atomic_write(output) as temporary:
        original, comparisons = model_path, []
        if model_path.suffix.lower() != ".onnx":
            original = folder / "model.onnx"
            comparisons.append(write(model_path, original, data_dir, opset))
        elif Recognizer(model_path).takes_pictures:
            raise InputError(f"{model_path} takes pictures already")
        onnx.save(any_image_model(onnx.load(original), top), temporary)
        comparisons.append(prove(temporary, original))
    return "; ".join([summary(output), *comparisons])
