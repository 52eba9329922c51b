"""An ONNX model of this toolkit with the normalisation inside: one file that takes pictures as they are, and its proof.
INPUT and OUTPUTS say what goes in and what comes out, each picture by itself. Probabilities, and whether a picture is
`known` to be one of the classes, come from the temperature and the threshold that the model's file names. A
picture without ink gives logits of 0, and is not known."""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import compose, helper, version_converter
from onnxscript import BOOL, FLOAT, INT64, script
from onnxscript import opset18 as op
from onnxscript.values import Opset
from tqdm import tqdm

from export.onnx_file import TOLERANCE, ConversionError, opset_of, summary, write
from export.varied_pictures import grey_of, varied_pictures
from files.atomic import atomic_write, scratch_folder
from files.command_line import InputError, first_line
from images.graph_steps import IR_VERSION, as_model
from images.normalization import normalize
from images.normalization_graph import OLDEST_OPSET, PICTURES, normalization_model
from images.normalization_graph import normalize as normalize_in_graph
from inference.confidence import Confidence, confidence_of
from inference.recognizer import Recognizer, single_thread

INPUT = "image uint8 (N, H, W, C), C 1 grey, 2 grey and opacity, 3 RGB, 4 RGBA; any size, either polarity"
OUTPUTS = (
    "probabilities float32 (N, {top}), classes int64 (N, {top}), likeliest first; logits float32 (N, {classes}); "
    "known bool (N,), false for what is none of the classes"
)
MODEL = Opset("model", 1)  # MODEL.Logits stands where the nodes of the model will be
COMPARED = 1000  # pictures, before a file gets its name
SAME_TOP1 = 0.999  # the least share of them
SAME_PIXEL = 0.01  # largest difference of a normalised pixel …
UNLIKE = 0.01  # … in all but this share: where rounding moves a value across a threshold, a pixel turns
SAME_PROBABILITY = 1e-4  # largest difference from the softmax of the file's own logits


def any_image_model(model: onnx.ModelProto, top: int) -> onnx.ModelProto:
    """A toolkit model, float or quantised, between the normalisation and the reading of its logits. Raises
    ConversionError where its opset is older than the normalisation's and cannot be raised."""
    properties = {entry.key: entry.value for entry in model.metadata_props}
    confidence = confidence_of(properties.get("confidence"), "the model")
    temperature, threshold = confidence.temperature, -np.inf if confidence.threshold is None else confidence.threshold
    count = len(properties["classes"])
    most = [min(top, count)]
    if opset_of(model) < OLDEST_OPSET:
        try:
            model = version_converter.convert_version(model, OLDEST_OPSET)
        except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
            raise ConversionError(f"its opset cannot be raised to {OLDEST_OPSET} ({first_line(error)})") from None

    @script()
    def read(image):
        images = normalize_in_graph(image)
        has_ink = op.ReduceMax(images, [1, 2, 3], keepdims=0) > 0
        logits = op.Where(op.Unsqueeze(has_ink, [1]), MODEL.Logits(images), 0.0)
        probabilities, classes = op.TopK(op.Softmax(logits / temperature, axis=1), most, axis=1)
        lead = op.ReduceMax(logits, [1], keepdims=0) - op.ReduceMean(logits, [1], keepdims=0)
        known = has_ink & (lead >= threshold)
        return probabilities, classes, logits, known

    made = [FLOAT["pictures", most[0]], INT64["pictures", most[0]], FLOAT["pictures", count], BOOL["pictures"]]
    around = as_model(read, [PICTURES], made).graph
    whole = compose.add_prefix(model, "model/", rename_functions=False)
    nodes = list(around.node)
    place = next(i for i, node in enumerate(nodes) if node.domain == MODEL.domain)
    before = helper.make_node("Identity", nodes[place].input, ["model/input_image"])
    after = helper.make_node("Identity", ["model/logits"], nodes[place].output)
    nodes[place : place + 1] = [before, *whole.graph.node, after]
    parts = (around.name, around.input, around.output, [*around.initializer, *whole.graph.initializer])
    whole.graph.CopyFrom(helper.make_graph(nodes, *parts, value_info=whole.graph.value_info))
    whole.ir_version = max(whole.ir_version, IR_VERSION)
    properties |= {"input": INPUT, "outputs": OUTPUTS.format(top=most[0], classes=count)}
    helper.set_model_props(whole, properties)
    onnx.checker.check_model(whole, full_check=True)
    return whole


def checked_logits(session, images: np.ndarray, confidence: Confidence) -> tuple[np.ndarray, np.ndarray]:
    """The logits (N, classes) of pictures uint8 (N, H, W, C), and which are known (N,); raises ConversionError unless
    probabilities and classes fit the logits."""
    shares, classes, logits, known = session.run(None, {"image": images})
    expected = np.take_along_axis(confidence.probabilities(logits), classes, axis=1)
    ordered = (np.diff(shares, axis=1) <= 0).all() and (classes[:, 0] == logits.argmax(axis=1)).all()
    if not np.isfinite(logits).all() or not ordered or np.abs(shares - expected).max() > SAME_PROBABILITY:
        raise ConversionError(f"probabilities and classes do not fit the logits of a picture of {images.shape[1:]}")
    return logits, known


def prove(path: Path, original: Path) -> str:
    """Compares a file for any image with normalization.py and the `original` model on varied pictures; one line.
    Raises ConversionError where they differ in more than rounding, or where pictures together are read otherwise."""
    recognizer, session = Recognizer(original), single_thread(path)
    normalization = single_thread(normalization_model(opset_of(onnx.load(path))).SerializeToString())
    same, differences, pictures = 0, [], varied_pictures(recognizer.classes, COMPARED)
    for picture in tqdm(pictures, "comparing", COMPARED, leave=False, disable=not sys.stderr.isatty()):
        expected = normalize(grey_of(picture))[None]
        differences.append(float(np.abs(normalization.run(None, {"image": picture[None]})[0] - expected).max()))
        logits, known = checked_logits(session, picture[None], recognizer.confidence)
        if logits.any() and not expected.any():
            raise ConversionError(f"a picture of {picture.shape} without ink is read as something")
        if known != recognizer.confidence.known(logits) & logits.any():
            raise ConversionError(f"known does not fit the logits of a picture of {picture.shape}")
        same += not expected.any() or logits.argmax() == recognizer.logits(expected).argmax()
    together = np.stack([picture, picture[::-1], picture[:, ::-1]])
    alone = np.concatenate([checked_logits(session, one[None], recognizer.confidence)[0] for one in together])
    if np.abs(checked_logits(session, together, recognizer.confidence)[0] - alone).max() > TOLERANCE:
        raise ConversionError("a batch is read differently from single pictures")
    unlike = sum(difference > SAME_PIXEL for difference in differences)
    comparison = (
        f"read as with normalization.py: {same:,} of {COMPARED:,} varied pictures; normalised pixels differ by at most "
        f"{max(differences):.1e} (median {np.median(differences):.1e}, above {SAME_PIXEL} in {unlike})"
    )
    if same < SAME_TOP1 * COMPARED or unlike > UNLIKE * COMPARED:
        raise ConversionError(comparison)
    return comparison


def convert_any_image(model_path: Path, output: Path, data_dir: Path | None, opset: int, top: int) -> str:
    """Puts the normalisation before a trained model or an ONNX file, compares, names the file; returns lines."""
    with scratch_folder(output) as folder, atomic_write(output) as temporary:
        original, comparisons = model_path, []
        if model_path.suffix.lower() != ".onnx":
            original = folder / "model.onnx"
            comparisons.append(write(model_path, original, data_dir, opset))
        elif Recognizer(model_path).takes_pictures:
            raise InputError(f"{model_path} takes pictures already")
        onnx.save(any_image_model(onnx.load(original), top), temporary)
        comparisons.append(prove(temporary, original))
    return "\n".join([summary(output), *comparisons]).replace("; ", "\n")
