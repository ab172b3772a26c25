"""JAX -> `.tflite` through jax2tf and TensorFlow's converter.

The only module that imports TensorFlow's converter, and only when called. The
files take the uint8 image as it comes from a camera and give probabilities:
scaling and softmax are inside, so that nobody does them a second time.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from fer_jax import ops
from fer_jax.export import graph

__all__ = ['PRECISIONS', 'ExportError', 'to_tflite']

PRECISIONS = ('float32', 'float16', 'int8')


class ExportError(ValueError):
  """The network could not be converted to what was asked for."""


def to_tflite(
  model: Any,
  variables: Any,
  input_shape: tuple[int, int, int],
  *,
  precision: str = 'float32',
  representative: np.ndarray | None = None,
  temperature: float | None = None,
  require_folded: bool = True,
) -> bytes:
  """A `.tflite` file with the signature `serving_default`.

  `image` uint8 `[1, H, W, C]` -> `probabilities` float32 `[1, K]`.

  Args:
    model: linen classifier, `apply(variables, image in [0, 1], train=False)` ->
      logits.
    variables: 'params' and 'batch_stats'.
    input_shape: (H, W, C).
    precision: 'float32'; 'float16' (weights stored so, arithmetic in float32);
      'int8' (weights and activations, quantised after training).
    representative: uint8 `[N, H, W, C]`, real images of the training data; the
      ranges of the int8 activations are measured on them. Needed for int8 only.
    temperature: the logits are divided by it; None leaves them.
    require_folded: refuse a graph with batch norm left in it.

  Returns:
    The file's content.

  Raises:
    ExportError: bad arguments, or the converter failed or gave something else
      than asked for.
    ImportError: TensorFlow is not installed; the message has the command.
  """
  if precision not in PRECISIONS:
    raise ExportError(
      f'unknown precision {precision!r}; choose one of {", ".join(PRECISIONS)}'
    )
  if temperature is not None and not 0 < temperature < float('inf'):
    raise ExportError(f'temperature must be above 0, got {temperature}')
  if precision == 'int8':
    representative = _full_range(representative, input_shape)
  with _quiet():
    tf = _tensorflow()
    function, module = _concrete_function(
      tf, model, variables, input_shape, precision == 'int8', temperature
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
      [function], module
    )
    if precision != 'float32':
      converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == 'float16':
      converter.target_spec.supported_types = [tf.float16]
    if precision == 'int8':
      converter.representative_dataset = lambda: (
        [image[None].astype(np.float32)] for image in representative
      )
      converter.target_spec.supported_ops = [
        tf.lite.OpsSet.TFLITE_BUILTINS_INT8
      ]
      converter.inference_input_type = tf.uint8
      converter.inference_output_type = tf.float32
    try:
      content = bytes(converter.convert())
    except Exception as error:  # the converter raises whatever it likes
      first = str(error).strip().splitlines()
      raise ExportError(
        f'the converter refused the {precision} graph: '
        f'{first[0] if first else type(error).__name__}'
      ) from error
  _check(content, precision, temperature, require_folded)
  return content


def _concrete_function(
  tf: Any,
  model: Any,
  variables: Any,
  input_shape: tuple[int, int, int],
  float_input: bool,
  temperature: float | None,
) -> tuple[Any, Any]:
  """The network as a TensorFlow function of one image, and its owner.

  For int8 the image enters as float32 0..255: the converter then makes the
  input itself uint8 with scale 1, and folds the scaling to [0, 1] into the
  first layer. A cast inside the graph would stay a float operation.
  """
  from jax.experimental import jax2tf

  def probabilities(image: jax.Array) -> jax.Array:
    with ops.implementation('lax'):
      x = image.astype(jnp.float32) / 255.0
      logits = model.apply(variables, x, train=False)
    if temperature is not None:
      logits = logits * (1.0 / temperature)
    return jax.nn.softmax(logits, axis=-1)

  # Lowered for the CPU wherever this runs: TFLite has no other kernels.
  converted = jax2tf.convert(
    probabilities, with_gradient=False, native_serialization_platforms=['cpu']
  )
  dtype = tf.float32 if float_input else tf.uint8
  module = tf.Module()
  module.serve = tf.function(
    lambda image: {'probabilities': converted(image)},
    autograph=False,
    input_signature=[tf.TensorSpec((1, *input_shape), dtype, name='image')],
  )
  return module.serve.get_concrete_function(), module


def _full_range(
  images: np.ndarray | None, input_shape: tuple[int, int, int]
) -> np.ndarray:
  """The representative images, with 0 and 255 certain to occur.

  The converter takes the range of the input from the images it sees. Only with
  0 and 255 among them its scale is exactly 1 and no grey level is lost. Where
  one is missing, a corner pixel is set to it.
  """
  if images is None or not len(images):
    raise ExportError(
      'int8 needs representative images: real ones of the training data'
    )
  images = np.asarray(images)
  if images.dtype != np.uint8 or images.shape[1:] != tuple(input_shape):
    raise ExportError(
      f'representative images must be uint8 [N, {", ".join(map(str, input_shape))}], '
      f'got {images.dtype} {list(images.shape)}'
    )
  images = images.copy()
  for value, corner in ((0, 0), (255, -1)):
    if not (images == value).any():
      images[corner, corner, corner] = value
  return images


def _check(
  content: bytes, precision: str, temperature: float | None, folded: bool
) -> None:
  try:
    if folded:
      graph.require_folded(content, temperature=temperature is not None)
    if precision == 'int8':
      graph.require_int8(content)
  except graph.GraphError as error:
    raise ExportError(f'{precision}: {error}') from None
  if precision == 'int8':
    scale, zero = graph.input_quantization(content)
    if abs(scale - 1) > 1e-6 or zero != 0:
      raise ExportError(
        f'int8: the image is quantised with scale {scale} and zero point '
        f'{zero}, not 1 and 0'
      )


def _tensorflow() -> Any:
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  try:
    import tensorflow as tf
  except ImportError:
    raise ImportError(
      "export needs TensorFlow: pip install 'fer-jax[export]'"
    ) from None
  # TensorFlow would otherwise take all memory of a GPU that JAX works on. Too
  # late where the process has used it before; conversion works all the same.
  with contextlib.suppress(RuntimeError):
    tf.config.set_visible_devices([], 'GPU')
  return tf


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Holds back what the converter's C++ side writes to stderr.

  It is shown after all where conversion fails.
  """
  sys.stderr.flush()
  saved = os.dup(2)
  with tempfile.TemporaryFile() as held:
    os.dup2(held.fileno(), 2)
    try:
      yield
    except BaseException:
      os.dup2(saved, 2)
      held.seek(0)
      os.write(2, held.read())
      raise
    finally:
      os.dup2(saved, 2)
      os.close(saved)
