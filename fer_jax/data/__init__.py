"""Data sets: from files on disk to arrays in memory.

`arrays` loads what `prepare` (or `python -m fer_jax.data.prepare`) wrote;
`targets` turns labels and votes into training targets; `builders` holds the
TFDS builders, `rendered_faces` the renderer of drawn faces. Importing this
package imports neither TensorFlow nor JAX.
"""
