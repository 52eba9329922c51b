"""Reading pictures with an exported model: a recognizer, how sure it is, what else a character looks like.

Needs onnxruntime, numpy and Pillow alone. May import `files`, `characters` and `images`.
"""
