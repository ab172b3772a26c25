"""From a trained network to files that a device can trust.

`tflite` converts, `graph` looks at what came out, `parity` compares it with
JAX on real images, `card` writes the model card, `bundle` puts everything into
one folder. TensorFlow is imported by `tflite` alone, when it converts.
"""
