"""Reading pictures with an exported model; needs onnxruntime, numpy and Pillow alone.
May import `files`, `characters` and `images`."""
