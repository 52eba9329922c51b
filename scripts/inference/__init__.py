"""Reading pictures with onnxruntime, numpy and Pillow alone. May import `files`, `characters` and `images`."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime 1.29 and later send usage data otherwise
