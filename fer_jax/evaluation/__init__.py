"""How good a network is: metrics, calibration, predictions, figures, reports.

`metrics` and `calibration` are numpy alone; `predict` runs a network in JAX or
a `.tflite` file in ai-edge-litert; `report` puts them together into the content
of a `metrics.json`.
"""
