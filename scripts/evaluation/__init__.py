"""How well a model reads: accuracy by writer, confusions, robustness, calibration, comparisons, pictures. May import
every other room."""
