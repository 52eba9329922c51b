"""An ONNX model of this toolkit with the normalisation inside: one file that takes pictures as they are.

Input `image` uint8 (N, H, W, C): N pictures of one size, any size and either polarity; C is 1 for grey, 2 for grey and
opacity, 3 for RGB, 4 for RGBA. A grey picture (H, W) is `picture[None, :, :, None]`: the number of an ONNX input's
axes is fixed. Outputs, each picture by itself: `probabilities` float32 (N, k) and `classes` int64 (N, k), likeliest
first, and `logits` float32 (N, classes). The probabilities are those of the logits divided by the temperature that the
file names, if any. A picture without ink gives logits of 0, so that all classes are as likely.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, compose, helper, version_converter

from command_line import first_line
from confidence import Confidence, confidence_of
from normalization import normalize
from normalization_graph import IR_VERSION, OLDEST_OPSET, normalization_model, normalization_nodes, picture_input
from onnx_expressions import Graph
from recognize import Recognizer
from varied_pictures import grey_of, varied_pictures

INPUT = "image uint8 (N, H, W, C), C 1 grey, 2 grey and opacity, 3 RGB, 4 RGBA; any size, either polarity"
OUTPUTS = "probabilities float32 (N, {top}), classes int64 (N, {top}), likeliest first; logits float32 (N, {classes})"
PICTURES = 1000  # compared before a file gets its name
SAME_TOP1 = 0.999  # the least share of them
SAME_PIXEL = 0.01  # largest difference of a normalised pixel …
UNLIKE = 0.01  # … in all but this share: where rounding moves a value across a threshold, a pixel turns
SAME_PROBABILITY = 1e-4  # largest difference from the softmax of the file's own logits


class AnyImageError(RuntimeError):
    """A model that cannot be given the normalisation, or a file that reads pictures otherwise than it should."""


def opset_of(model: onnx.ModelProto) -> int:
    return next(entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"})


def raised(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in the oldest opset that the normalisation can be written in, unless its own is as new."""
    if opset_of(model) >= OLDEST_OPSET:
        return model
    try:
        return version_converter.convert_version(model, OLDEST_OPSET)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        reason = first_line(error)
        raise AnyImageError(f"opset {opset_of(model)} cannot be raised to {OLDEST_OPSET} ({reason})") from None


def reading_nodes(
    images: str, logits: str, top: int, temperature: float
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Nodes and constants that make `probabilities`, `classes` and `logits` of the model's input and output."""
    graph = Graph("reading/")
    some = graph.tensor(images, np.float32).any(1, 2, 3).squeeze(2, 3)
    gated = some.where(graph.tensor(logits, np.float32), 0)
    shares = graph.node("Softmax", gated if temperature == 1 else gated / temperature, axis=1)
    best = graph.node("TopK", shares, graph.constant([top], np.int64), outputs=2, axis=1)
    made = zip((*best, gated), ("probabilities", "classes", "logits"), strict=True)
    graph.nodes += [helper.make_node("Identity", [tensor.name], [name]) for tensor, name in made]
    return graph.nodes, list(graph.constants.values())


def any_image_model(model: onnx.ModelProto, top: int) -> onnx.ModelProto:
    """A toolkit model, float or quantised, between the normalisation and the reading of its logits."""
    properties = {entry.key: entry.value for entry in model.metadata_props}
    classes = len(properties["classes"])
    top = min(top, classes)
    merged = compose.add_prefix(raised(model), "model/", rename_functions=False)
    graph, before = merged.graph, normalization_nodes("image", "model/input_image")
    temperature = confidence_of(properties.get("confidence"), "the model").temperature
    after = reading_nodes("model/input_image", "model/logits", top, temperature)
    nodes = [*before[0], *graph.node, *after[0]]
    graph.initializer.extend([*before[1], *after[1]])
    outputs = (("probabilities", TensorProto.FLOAT, top), ("classes", TensorProto.INT64, top))
    for field, content in (
        (graph.node, nodes),
        (graph.input, [picture_input()]),
        (graph.output, [helper.make_tensor_value_info(n, t, ["pictures", k]) for n, t, k in outputs]),
    ):
        del field[:]
        field.extend(content)
    graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["pictures", classes]))
    merged.ir_version = max(merged.ir_version, IR_VERSION)
    told = {"input": INPUT, "outputs": OUTPUTS.format(top=top, classes=classes)}
    helper.set_model_props(merged, properties | told)
    onnx.checker.check_model(merged, full_check=True)
    return merged


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


def single_thread(model: Path | bytes, optimised: Path | None = None) -> onnxruntime.InferenceSession:
    """A session on one thread of the processor, which can write down what onnxruntime makes of the graph."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    if optimised:
        options.optimized_model_filepath = str(optimised)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


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
