"""The normalisation as an ONNX graph: equal to normalization.py, Pillow and numpy, step by step and as a whole."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnxscript import BOOL, FLOAT, INT64, UINT8, OnnxFunction
from PIL import Image

from export.varied_pictures import grey_of, varied_pictures
from images import normalization_graph
from images.graph_steps import as_model
from images.normalization import normalize, place
from images.normalization_graph import normalization_model
from images.reading import over_paper
from inference.recognizer import single_thread

CLASSES = "あいう亜腕語鬱一"


@pytest.fixture(scope="module")
def whole() -> onnxruntime.InferenceSession:
    return session(normalization_model())


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    return single_thread(model.SerializeToString())


def computed(step: OnnxFunction, *arrays: np.ndarray) -> np.ndarray:
    """What a part of the graph makes of these arrays."""
    given = [
        {"uint8": UINT8, "int64": INT64, "float32": FLOAT, "bool": BOOL}[a.dtype.name][(None,) * a.ndim] for a in arrays
    ]
    graph = session(as_model(step, given, [FLOAT[...]]))
    return graph.run(None, {entry.name: array for entry, array in zip(graph.get_inputs(), arrays, strict=True)})[0]


def largest_difference(graph: onnxruntime.InferenceSession, picture: np.ndarray) -> float:
    made = graph.run(None, {"image": picture[None]})[0]
    assert made.shape == (1, 1, 64, 64)
    return float(np.abs(made[0] - normalize(grey_of(picture))).max())


def test_varied_pictures_become_what_normalization_makes_of_them(whole):
    differences = [largest_difference(whole, picture) for picture in varied_pictures(CLASSES, 150)]
    assert np.sort(differences)[-3] < 1e-4  # rounding may turn a pixel at a threshold, but hardly ever
    assert max(differences) < 0.3


@pytest.mark.parametrize(("side", "blob"), [(200, 150), (200, 120), (256, 200), (256, 240), (40, 39)])
def test_a_solid_blob_wider_than_any_pen(side, blob):
    low, high = (side - blob) // 2, (side + blob) // 2
    ink = np.zeros((side, side), np.float32)
    ink[low:high, low:high] = 1
    np.testing.assert_allclose(placed(ink), place(ink[None])[0], atol=1e-4)


def placed(ink: np.ndarray) -> np.ndarray:
    return computed(normalization_graph.place, ink, np.array(False))


@pytest.mark.parametrize("height", [100, 60])
def test_a_stroke_near_an_edge_stays_and_one_at_it_goes_as_there(height):
    ink = np.zeros((3, height, 100), np.float32)
    ink[:, 25:35, 30:75] = ink[:, 20:50, 45:55] = 1
    ink[0, 15:45, 6:9] = 1  # near: belongs to the character
    ink[1, 15:45, 0:3] = 1  # at the edge
    ink[2, -3:, 15:45] = 1
    made = np.stack([placed(picture) for picture in ink])
    np.testing.assert_allclose(made, place(ink), atol=1e-4)
    assert np.abs(made[1] - made[0]).max() > 0.5
    assert np.abs(made[1] - made[2]).max() < 1e-4  # both were dropped


@pytest.mark.parametrize("side", [128, 200, 300])
def test_frame_lines_along_the_edges_are_dropped_as_there(whole, side):
    plain = np.full((side, side, 1), 255, np.uint8)
    plain[side // 3 : side // 3 + side // 20, side // 4 : 3 * side // 4] = 0
    plain[side // 4 : 3 * side // 4, side // 2 : side // 2 + side // 20] = 0
    for edge in (np.s_[1:3, :], np.s_[-3:-1, 5:], np.s_[4:, 0:2], np.s_[:-4, -2:]):
        framed = plain.copy()
        framed[edge] = 60
        assert largest_difference(whole, framed) < 1e-4
        assert np.abs(normalize(grey_of(framed)) - normalize(grey_of(plain))).max() < 0.05  # it is really dropped


@pytest.mark.parametrize("opset", [18, 20, 21, 23])
def test_every_newer_opset(opset):
    model = normalization_model(opset)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
    graph = session(model)
    assert max(largest_difference(graph, picture) for picture in varied_pictures(CLASSES, 40)) < 1e-4


def test_pictures_together_are_read_as_each_alone(whole):
    picture = next(p for p in varied_pictures(CLASSES, 60) if min(p.shape[:2]) > 100)
    noise = np.random.default_rng(0).integers(0, 256, picture.shape).astype(np.uint8)
    together = np.stack([picture, np.full_like(picture, 255), picture[::-1], 255 - picture, noise])
    made = whole.run(None, {"image": together})[0]
    for image, one in zip(made, together, strict=True):
        np.testing.assert_allclose(image, whole.run(None, {"image": one[None]})[0][0], atol=1e-5)
    assert (made[0].any(), made[1].any()) == (True, False)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_grey_is_that_of_pillow_to_the_last_bit(channels):
    random = np.random.default_rng(channels)
    pictures = random.integers(0, 256, (6, 80, 90, channels)).astype(np.uint8)
    if channels in (2, 4):
        pictures[1:3, :, :, -1] = pictures[1:3, :, :, -1] // 4  # little ink, light and dark: on black and on white
        pictures[1, :, :, :-1] = 128 + pictures[1, :, :, :-1] // 2
        pictures[2, :, :, :-1] = pictures[2, :, :, :-1] // 2
        pictures[3, :, :, -1], pictures[4, :, :, -1] = 0, 255
    for number, picture in enumerate(pictures):
        grey = computed(normalization_graph.working_grey, pictures, np.array(number))
        image = Image.fromarray(picture.squeeze(), {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels])
        expected = over_paper(image.convert("RGBA")) if channels in (2, 4) else image
        np.testing.assert_array_equal(grey, np.asarray(expected.convert("L")))


@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 9, 64])
def test_reflection_is_that_of_numpy(length):
    expected = np.pad(np.eye(length), ((8, 8), (0, 0)), mode="reflect", reflect_type="odd")
    matrix = computed(normalization_graph.extension_matrix, np.array(length))
    values = np.random.default_rng(length).random((length, 3))
    low, high = values.min(), values.max()  # beyond which cells are clipped
    np.testing.assert_allclose((matrix @ values).clip(low, high), (expected @ values).clip(low, high), atol=1e-5)
