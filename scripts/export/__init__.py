"""Model files for other programs, and the proof of each: ONNX, pictures in, INT8, SafeTensors.

May import `files` to `quantization`.
"""
