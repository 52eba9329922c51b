"""No script reaches for the network: all run where there is none, in a network namespace without a route, while an
audit hook listens for any try of Python's to connect or to look up a name."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tiny_models import TINY, save_float, save_int8

SCRIPTS = Path(__file__).parents[1] / "scripts"
# The quickstart needs a whole training of minutes, and does nothing but run the others; fetch_fonts.py fetches.
LEFT_OUT = {"quickstart", "optimization_config", "fetch_fonts"}

DRIVER = """
import contextlib, json, multiprocessing, runpy, socket, sys
tries = []
def listen(event, arguments):
    to_a_file = event == "socket.connect" and isinstance(arguments[1], str | bytes)  # between processes
    if event in {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"} and not to_a_file:
        tries.append([event, str(arguments[1:])])
sys.addaudithook(listen)
with contextlib.suppress(OSError):
    socket.create_connection(("192.0.2.1", 80), timeout=5)
    sys.exit("there is a network here")
assert tries, "a try to connect is not heard"
sys.path.insert(0, sys.argv[1])
from export import any_image
from records import etl9g
any_image.COMPARED = 20
characters, sheets, places = etl9g.set_layout()
etl9g.SETS_PER_FILE = 1  # raw files of one set of 60 characters
etl9g.set_layout = lambda: (characters[:60], sheets[:60], places[:60])
etl9g.records_per_set = lambda: 60
from engine import adaptation
adaptation.STEPS = 2
multiprocessing.set_start_method("fork", force=True)
for name, *arguments in json.loads(sys.argv[2]):
    tries.clear()
    sys.argv = [name + ".py", *map(str, arguments)]
    try:
        runpy.run_path(f"{sys.path[0]}/{name}.py", run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code or 0
    print("\\nENDED " + json.dumps([name, code, tries]), flush=True)
"""


def calls(folder: Path, data: Path) -> list[list]:
    """Every script with tiny data; what is written goes into the working folder."""
    models = {script: save_float(script, folder / f"{script}.pth") for script in TINY}
    int8 = save_int8("train_etl9g_model", folder / "int8.pth")
    cnn = ["--model-path", models["train_etl9g_model"]]
    Image.linear_gradient("L").save(folder / "picture.png")
    (labelled := folder / "labelled").mkdir()
    for char in "亜腕":
        Image.linear_gradient("L").rotate(ord(char)).save(labelled / f"{char}_1.png")
    short = ["--data-dir", data, "--epochs", 1, "--batch-size", 16, "--device", "cpu"]
    limits = ["--compare", 20, "--agreement", 0]
    return [
        ["preflight_check", "--etl9g-dir", "raw", "--data-dir", data],
        ["synthesize_etl9g", "--sets", 2, "--out", "raw", "--processes", 2],
        ["prepare_dataset", "--etl9g-dir", "raw", "--output-dir", "prepared", "--processes", 2],
        *(
            [script, *short, "--model-dir", script, *(word for k, v in TINY[script].items() for word in (f"--{k}", v))]
            for script in TINY
        ),
        ["train_qat", *short, *cnn, "--model-dir", "qat", "--calibration-images", 10, "--test-samples", 20],
        ["quantize_model", *cnn, "--data-dir", data, "--calibration-images", 10, "--output", "int8.pth"],
        ["convert_int8_pytorch_to_quantized_onnx", "--model-path", int8, "--data-dir", data, *limits],
        ["convert_to_onnx", *cnn, "--data-dir", data, "--output", "model.onnx"],
        ["convert_to_onnx", "--any-image", "--model-path", "model.onnx", "--output", "any.onnx"],
        ["convert_to_safetensors", *cnn, "--folder", "hub"],
        ["calibrate_confidence", "--model", models["train_vit"], "--data-dir", data, "--out-of-set", 5, "--dry-run"],
        ["evaluate", "--model", models["train_vit"], "--data-dir", data, "--output-dir", "evaluation"],
        ["recognize", folder / "picture.png", "--model", "model.onnx"],
        ["show_normalization", folder / "picture.png", "--output", "seen.png"],
        ["character_structure", "語"],
        ["add_classes", "--model", models["train_hiercode"], "--characters", "塡", "--output", "more.pth"],
        [
            "adapt",
            "--model",
            models["train_hiercode"],
            "--labels",
            labelled,
            "--output",
            "own.pth",
            "--accept-loss",
            100,
        ],
        ["compare_alternatives", "--model", "model.onnx", "--images", "raw"],
        ["benchmark", "--help"],
    ]


def test_every_script_runs_where_there_is_no_network(tiny_dataset, tmp_path):
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode:
        pytest.skip("network namespaces are not permitted here")
    wanted = calls(tmp_path, tiny_dataset())
    code = ["unshare", "-rn", sys.executable, "-c", DRIVER, SCRIPTS, json.dumps(wanted, default=str)]
    work = tmp_path / "work"
    work.mkdir()
    done = subprocess.run(code, cwd=work, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    ended = [json.loads(line.removeprefix("ENDED ")) for line in done.stdout.splitlines() if line.startswith("ENDED ")]
    assert done.returncode == 0, done.stderr
    assert [name for name, _, _ in ended] == [name for name, *_ in wanted]
    assert "Traceback" not in done.stderr, done.stderr
    assert not [tried for tried in ended if tried[2]]
    refused = {"add_classes": 2, "compare_alternatives": 2}
    assert {name: code for name, code, _ in ended if code} == refused, done.stderr
    assert {path.stem for path in SCRIPTS.glob("*.py")} - LEFT_OUT == {name for name, *_ in wanted}


def test_reading_a_picture_opens_no_socket_and_writes_nothing(tmp_path):
    """Nor do the libraries by themselves: onnxruntime would keep an identifier and a queue in the home folder, and look
    up where to send them, but not where CI is set."""
    home, trace = tmp_path / "home", tmp_path / "trace"
    home.mkdir()
    variables = {name: value for name, value in os.environ.items() if name != "CI"} | {"HOME": str(home)}
    picture = SCRIPTS.parent / "models" / "released" / "recognised.png"
    command = [sys.executable, SCRIPTS / "recognize.py", picture]
    if shutil.which("strace") and not subprocess.run(["strace", "true"], capture_output=True).returncode:
        command = ["strace", "-f", "-e", "trace=openat,socket,connect", "-o", trace, *command]
    subprocess.run(command, env=variables, cwd=tmp_path, check=True)
    calls = trace.read_text(encoding="utf-8").splitlines() if trace.is_file() else []
    assert not [line for line in calls if re.search(r"\b(socket|connect)\(", line)]
    written = [line for line in calls if re.search(r"O_WRONLY|O_RDWR|O_CREAT", line)]
    assert not [line for line in written if not re.search(r"/dev/|__pycache__", line)]
    assert not [path for path in home.rglob("*") if path.is_file()]
