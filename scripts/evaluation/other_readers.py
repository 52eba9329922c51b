"""Other programs that read Japanese characters, behind one call: what a model of this toolkit is compared with.

Nothing is downloaded: the weights come with the packages (requirements-alternatives.txt; Debian's tesseract-ocr-jpn).
"""

import importlib.metadata
import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from files.command_line import InputError
from inference.recognizer import Recognizer

ANSWERS = 5
RAPIDOCR_MODEL, TESSDATA = "PP-OCRv6_rec_small.onnx", "jpn.traineddata"


@dataclass
class Reader:
    """A program with its model files, `size` bytes.

    read(pictures), grey uint8 (H, W) each, dark ink on white paper, gives an output for each, in the time that is
    measured; answers(output, among) the characters it stands for, likeliest first: of these, or of all that it knows.
    `ranks`: whether there are several, so that `among` can choose.
    """

    name: str
    size: int
    read: Callable[[list[np.ndarray]], list]
    answers: Callable[[Any, str | None], list[str]]
    ranks: bool = True


def own_reader(path: Path) -> Reader:
    """A model of this toolkit, one picture at a time; normalisation included."""
    recognizer = Recognizer(path, threads=1)

    def read(pictures: list[np.ndarray]) -> list[np.ndarray]:
        return [recognizer.picture_logits([picture.astype(np.float32)])[0] for picture in pictures]

    def answers(logits: np.ndarray, among: str | None) -> list[str]:
        return highest(logits, recognizer.classes, among)

    return Reader(str(path), path.stat().st_size, read, answers)


def highest(scores: np.ndarray, symbols: Sequence[str], among: str | None) -> list[str]:
    """The symbols of the highest scores (n,), at most ANSWERS, of those in `among` where that is given."""
    order = np.argsort(-scores, kind="stable")
    allowed = set(symbols if among is None else among)
    return list(itertools.islice((symbols[i] for i in order if symbols[i] in allowed), ANSWERS))


def one_character_scores(shares: np.ndarray) -> np.ndarray:
    """What a CTC output (steps, symbols), symbol 0 blank, gives each symbol as the whole text: float64 (symbols,).

    The sum over all alignments: blanks, then the symbol once or longer, then blanks.
    """
    shares = shares.astype(np.float64)
    before, written, after = 1.0, np.zeros(shares.shape[1]), np.zeros(shares.shape[1])
    for step in shares:
        after = (after + written) * step[0]
        written = (written + before) * step
        before *= step[0]
    scores = written + after
    scores[0] = 0
    return scores


def rapidocr_reader(width: int = 320) -> Reader:
    """RapidOCR's recogniser alone, on the PP-OCRv6 small model of its wheel, one thread, one picture at a time.

    `width` is that of its input, 48 high; 320 is its own choice, less is quicker. Answers are the likeliest texts of
    one character.
    """
    try:
        import rapidocr
    except ImportError:
        raise InputError("the package rapidocr is missing: pip install -r requirements-alternatives.txt") from None
    model = Path(rapidocr.__file__).parent / "models" / RAPIDOCR_MODEL
    if not model.is_file():
        raise InputError(f"{model} is missing: this version of rapidocr comes without it")
    threads = {f"EngineConfig.onnxruntime.{kind}_op_num_threads": 1 for kind in ("intra", "inter")}
    engine = rapidocr.RapidOCR(params={"Global.log_level": "critical", "Rec.model_path": str(model)} | threads)
    engine(np.full((48, 48, 3), 255, np.uint8), use_det=False, use_cls=False, use_rec=True)  # loads the recogniser
    recognizer = engine.text_rec
    symbols = recognizer.postprocess_op.character

    def read(pictures: list[np.ndarray]) -> list[np.ndarray]:
        outputs = []
        for picture in pictures:
            colour = np.repeat(picture[:, :, None], 3, axis=2)
            ratio = max(width / 48, picture.shape[1] / picture.shape[0])
            outputs.append(recognizer.session(recognizer.resize_norm_img(colour, ratio)[None])[0])
        return outputs

    def answers(shares: np.ndarray, among: str | None) -> list[str]:
        return highest(one_character_scores(shares), symbols, among)

    name = f"RapidOCR {importlib.metadata.version('rapidocr')}, PP-OCRv6 small, {width} wide"
    return Reader(name, model.stat().st_size, read, answers)


def tesseract_reader() -> Reader:
    """Tesseract with its Japanese data, one thread, each picture as a single character.

    It gives one answer; where that has several characters it counts as the first.
    """
    os.environ["OMP_THREAD_LIMIT"] = "1"  # read when the library is loaded
    try:
        import tesserocr
    except ImportError:
        raise InputError("the package tesserocr is missing: pip install -r requirements-alternatives.txt") from None
    given = os.environ.get("TESSDATA_PREFIX")
    data = sorted(Path(given).glob(TESSDATA) if given else Path("/usr/share").glob(f"tess*/**/{TESSDATA}"))
    if not data:
        raise InputError(
            f"tesseract's {TESSDATA} is missing: apt-get install tesseract-ocr-jpn, or set TESSDATA_PREFIX"
        )
    engine = tesserocr.PyTessBaseAPI(path=f"{data[-1].parent}/", lang="jpn", psm=tesserocr.PSM.SINGLE_CHAR)

    def read(pictures: list[np.ndarray]) -> list[str]:
        texts = []
        for picture in pictures:
            engine.SetImage(Image.fromarray(picture))
            texts.append(engine.GetUTF8Text().strip())
        return texts

    name = f"Tesseract {tesserocr.tesseract_version().split()[1]}, jpn"
    return Reader(name, data[-1].stat().st_size, read, lambda text, _: list(text[:1]), ranks=False)
