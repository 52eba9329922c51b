"""Any picture to the input contract: reading files, the normalisation, the same as an ONNX graph, distortions.

May import `files` and `characters`; reading and normalising need numpy and Pillow alone.
"""
