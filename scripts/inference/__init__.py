"""Reading pictures with onnxruntime, numpy and Pillow alone. May import `files`, `characters` and `images`."""
