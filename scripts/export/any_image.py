"""An ONNX model of this toolkit with the normalisation inside: one file that takes pictures as they are.

Input `image` uint8 (N, H, W, C): N pictures of one size, any size and either polarity; C is 1 for grey, 2 for grey and
opacity, 3 for RGB, 4 for RGBA. A grey picture (H, W) is `picture[None, :, :, None]`: the number of an ONNX input's
axes is fixed. Outputs, each picture by itself: `probabilities` float32 (N, k) and `classes` int64 (N, k), likeliest
first, and `logits` float32 (N, classes). The probabilities are those of the logits divided by the temperature that the
file names, if any. A picture without ink gives logits of 0, so that all classes are as likely.
"""

import onnx
from onnx import compose, helper, version_converter
from onnxscript import FLOAT, INT64, script
from onnxscript import opset18 as op
from onnxscript.values import Opset

from export.onnx_file import ConversionError, opset_of
from files.command_line import first_line
from images.normalization_graph import IR_VERSION, OLDEST_OPSET, PICTURES, as_model, normalize
from inference.confidence import confidence_of

INPUT = "image uint8 (N, H, W, C), C 1 grey, 2 grey and opacity, 3 RGB, 4 RGBA; any size, either polarity"
OUTPUTS = "probabilities float32 (N, {top}), classes int64 (N, {top}), likeliest first; logits float32 (N, {classes})"
MODEL = Opset("model", 1)  # MODEL.Logits stands where the nodes of the model will be


def raised(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in the oldest opset that the normalisation can be written in, unless its own is as new."""
    if opset_of(model) >= OLDEST_OPSET:
        return model
    try:
        return version_converter.convert_version(model, OLDEST_OPSET)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        reason = first_line(error)
        raise ConversionError(f"opset {opset_of(model)} cannot be raised to {OLDEST_OPSET} ({reason})") from None


def reading_model(classes: int, top: int, temperature: float) -> onnx.ModelProto:
    """From pictures to the `top` likeliest of the classes, with MODEL.Logits for the model's own nodes."""
    most = [top]

    @script()
    def read(image):
        images = normalize(image)
        has_ink = op.ReduceMax(images, [1, 2, 3], keepdims=0) > 0
        logits = op.Where(op.Unsqueeze(has_ink, [1]), MODEL.Logits(images), 0.0)
        probabilities, classes = op.TopK(op.Softmax(logits / temperature, axis=1), most, axis=1)
        return probabilities, classes, logits

    likeliest = FLOAT["pictures", top], INT64["pictures", top]
    return as_model(read, [PICTURES], [*likeliest, FLOAT["pictures", classes]])


def any_image_model(model: onnx.ModelProto, top: int) -> onnx.ModelProto:
    """A toolkit model, float or quantised, between the normalisation and the reading of its logits."""
    properties = {entry.key: entry.value for entry in model.metadata_props}
    classes = len(properties["classes"])
    top = min(top, classes)
    temperature = confidence_of(properties.get("confidence"), "the model").temperature
    whole = compose.add_prefix(raised(model), "model/", rename_functions=False)
    around = reading_model(classes, top, temperature).graph
    nodes = list(around.node)
    place = next(i for i, node in enumerate(nodes) if node.domain == MODEL.domain)
    before = helper.make_node("Identity", nodes[place].input, ["model/input_image"])
    after = helper.make_node("Identity", ["model/logits"], nodes[place].output)
    nodes[place : place + 1] = [before, *whole.graph.node, after]
    around.initializer.extend(whole.graph.initializer)
    del around.node[:]
    around.node.extend(nodes)
    around.value_info.extend(whole.graph.value_info)
    whole.graph.CopyFrom(around)
    whole.ir_version = max(whole.ir_version, IR_VERSION)
    helper.set_model_props(whole, properties | {"input": INPUT, "outputs": OUTPUTS.format(top=top, classes=classes)})
    onnx.checker.check_model(whole, full_check=True)
    return whole
