"""How well a model reads: accuracy, calibration, comparisons, pictures. May import every other room."""
