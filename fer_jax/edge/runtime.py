"""Runs a bundle's `.tflite`, after checking that it is what the bundle says."""

from __future__ import annotations

import pathlib
import threading
from typing import TYPE_CHECKING
from typing import Any

from fer_jax import bundles
from fer_jax import labels as label_sets

if TYPE_CHECKING:
  import numpy as np

__all__ = ['FILES', 'Model', 'ModelError', 'load', 'precisions', 'to_channels']

# Precision -> file in the bundle.
FILES = {
  'int8': 'model_int8.tflite',
  'float16': 'model_float16.tflite',
  'float32': 'model.tflite',
}
_SIGNATURE = 'serving_default'


class ModelError(bundles.BundleError):
  """A model disagrees with its bundle, or cannot be run."""


class Model:
  """An interpreter with its signature; thread-safe.

  Attributes:
    path: the `.tflite` file.
    metadata: the bundle's `model.json`.
    input_shape: (H, W, C) of the input `image`.
    output_shapes: output name -> shape, with the batch of 1.
  """

  def __init__(
    self,
    path: pathlib.Path,
    metadata: dict[str, Any],
    threads: int | None = None,
  ):
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    self.path = path
    self.metadata = metadata
    try:
      interpreter = Interpreter(model_path=str(path), num_threads=threads)
      self._runner = interpreter.get_signature_runner(_SIGNATURE)
    except (ValueError, RuntimeError) as error:
      reason = str(error).splitlines()[0]
      raise ModelError(f'{path}: cannot be run: {reason}') from None
    inputs = self._runner.get_input_details()
    self.input_shape = tuple(metadata['input_shape'])
    shape = {name: tuple(d['shape'].tolist()) for name, d in inputs.items()}
    if shape != {'image': (1, *self.input_shape)}:
      raise ModelError(
        f'{path}: its inputs are {shape}, model.json says image '
        f'{(1, *self.input_shape)}'
      )
    kind = inputs['image']['dtype'].__name__
    if kind != 'uint8':
      raise ModelError(f'{path}: its image is {kind}, not uint8')
    self.output_shapes = {
      name: tuple(d['shape'].tolist())
      for name, d in self._runner.get_output_details().items()
    }
    # The signature's runner holds pointers into the interpreter.
    self._interpreter = interpreter
    self._lock = threading.Lock()
    try:
      # Memory is asked for and operations are looked up at the first run: what
      # fails, fails here and not at the first picture.
      self(np.zeros((1, *self.input_shape), np.uint8))
    except (ValueError, RuntimeError) as error:
      reason = str(error).splitlines()[0]
      raise ModelError(f'{path}: cannot be run: {reason}') from None

  def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs for one uint8 `[1, H, W, C]` image."""
    with self._lock:
      return self._runner(image=image)


def precisions(bundle: pathlib.Path) -> list[str]:
  """The precisions whose file is in the bundle."""
  return [name for name, file in FILES.items() if (bundle / file).is_file()]


def load(
  bundle: pathlib.Path,
  *,
  precision: str = 'int8',
  threads: int | None = None,
  kind: str,
) -> Model:
  """Verifies a bundle's files and loads its model.

  Args:
    bundle: the bundle's folder.
    precision: 'int8', 'float16' or 'float32'.
    threads: of the interpreter; None lets it choose.
    kind: what the bundle has to hold, 'classifier' or 'detector'.

  Raises:
    BundleError: a file is missing or damaged, or the model's signature or
      labels are not those of `model.json`; the message names the file.
  """
  if precision not in FILES:
    raise ModelError(
      f'unknown precision {precision!r}; choose one of: {", ".join(FILES)}'
    )
  if not (bundle / FILES[precision]).is_file():
    there = ', '.join(precisions(bundle)) or 'no model at all'
    raise ModelError(f'{bundle}: no {precision} model here; it has {there}')
  bundles.verify(bundle, [bundles.METADATA, 'labels.txt', FILES[precision]])
  metadata = bundles.metadata(bundle)
  if metadata['kind'] != kind:
    raise ModelError(
      f'{bundle}: holds a {metadata["kind"]}, where a {kind} is needed'
    )
  _check_labels(bundle, metadata)
  return Model(bundle / FILES[precision], metadata, threads)


def _check_labels(bundle: pathlib.Path, metadata: dict[str, Any]) -> None:
  names = metadata['labels']
  file = bundle / 'labels.txt'
  if file.read_text(encoding='utf-8').split() != names:
    raise ModelError(f'{file}: its labels are not those of model.json')
  known = label_sets.LABEL_SETS.get(metadata.get('label_set', ''))
  if known is not None and list(known.names) != names:
    raise ModelError(
      f'{bundle / bundles.METADATA}: its labels are not those of label set '
      f'{known.name!r}'
    )


def to_channels(image: np.ndarray, channels: int) -> np.ndarray:
  """RGB uint8 `[h, w, 3]` to `[h, w, channels]`; 1 channel is luma."""
  import cv2

  if channels == 1:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
  return image
