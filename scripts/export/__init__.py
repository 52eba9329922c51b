"""Model files for other programs, and their proof: ONNX, INT8, SafeTensors. May import `files` to `quantization`."""
