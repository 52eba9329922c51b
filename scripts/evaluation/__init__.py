"""How well a model reads: accuracy and its errors by writer, confusions, robustness, calibration, comparisons, pictures.

May import every other room.
"""
