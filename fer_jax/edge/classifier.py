"""From a face in a picture to the probabilities of its expression."""

from __future__ import annotations

import os
import pathlib
from typing import TYPE_CHECKING

from fer_jax import bundles
from fer_jax.edge import runtime

if TYPE_CHECKING:
  import numpy as np

__all__ = ['Classifier', 'crop_face', 'default_bundle', 'golden_difference']

# Taken when no model is named.
DEFAULT = 'mini_xception_fer2013'


def default_bundle() -> str:
  """Name of the classifier used when none is named.

  Raises:
    UnknownBundleError: there is no classifier at all.
  """
  names = bundles.names()
  if DEFAULT in names:
    return DEFAULT
  for name in names:
    if bundles.metadata(bundles.find(name))['kind'] == 'classifier':
      return name
  raise bundles.UnknownBundleError(
    'no trained model found; set FER_JAX_CHECKPOINTS to a folder of bundles'
  )


class Classifier:
  """Tells expressions with a bundle's `.tflite`; thread-safe.

  Attributes:
    folder: of the bundle.
    name: of the bundle.
    precision: of the model.
    labels: class names in the order of the probabilities.
    input_shape: (H, W, C) of a crop.

  Args:
    model: name or folder of a bundle; None takes the default.
    precision: 'int8', 'float16' or 'float32'.
    threads: of the interpreter; None lets it choose.

  Raises:
    BundleError: unknown, damaged, or not a classifier.
  """

  def __init__(
    self,
    model: str | os.PathLike[str] | None = None,
    *,
    precision: str = 'int8',
    threads: int | None = None,
  ):
    bundle = bundles.find(default_bundle() if model is None else model)
    self._model = runtime.load(
      bundle, precision=precision, threads=threads, kind='classifier'
    )
    self.folder = bundle.resolve()
    self.name = self.folder.name
    self.precision = precision
    self.labels = tuple(self._model.metadata['labels'])
    self.input_shape = self._model.input_shape
    wanted = {'probabilities': (1, len(self.labels))}
    if self._model.output_shapes != wanted:
      raise runtime.ModelError(
        f'{self._model.path}: its outputs are {self._model.output_shapes}, '
        f'the {len(self.labels)} labels of model.json need {wanted}'
      )

  def __call__(
    self,
    image: np.ndarray,
    box: tuple[float, float, float, float],
    margin: float = 0.0,
  ) -> np.ndarray:
    """Probabilities float32 `[K]` of the face in `box`; see `crop_face`."""
    height, width, channels = self.input_shape
    crop = crop_face(image, box, margin=margin, size=(width, height))
    return self.classify(runtime.to_channels(crop, channels))

  def classify(self, crop: np.ndarray) -> np.ndarray:
    """Probabilities float32 `[K]` of a uint8 `[H, W, C]` crop."""
    return self._model(crop[None])['probabilities'][0].copy()


def crop_face(
  image: np.ndarray,
  box: tuple[float, float, float, float],
  *,
  margin: float,
  size: tuple[int, int],
) -> np.ndarray:
  """Cuts the square that the networks were trained to look at.

  The rule: cut the box at the image's edges; take the square round the centre
  of what is left, whose side is the longer side of the box times (1 + margin);
  round it to whole pixels; scale it to `size` by area when it shrinks, linearly
  when it grows. Where the square leaves the image, the edge is repeated.

  Args:
    image: uint8 `[h, w, 3]`.
    box: x0, y0, x1, y1 in pixels; it may reach beyond the image.
    margin: 0.1 makes the square 10 % wider than the box.
    size: (width, height) of the crop.

  Returns:
    uint8 `[height, width, 3]`.

  Raises:
    ValueError: no part of the box is in the image.
  """
  import cv2

  rows, columns = image.shape[:2]
  x0, x1 = max(box[0], 0.0), min(box[2], float(columns))
  y0, y1 = max(box[1], 0.0), min(box[3], float(rows))
  if not (x0 < x1 and y0 < y1):  # so written that NaN is refused as well
    raise ValueError(
      f'box {tuple(box)} does not meet the image of {columns}x{rows} pixels'
    )
  side = max(1, round(max(x1 - x0, y1 - y0) * (1 + margin)))
  left = round((x0 + x1 - side) / 2)
  top = round((y0 + y1 - side) / 2)
  # Rounding may push the square of a sliver at the edge out of the image.
  left = min(max(left, 1 - side), columns - 1)
  top = min(max(top, 1 - side), rows - 1)
  inner_x, before_x, after_x, width = _span(left, side, columns, size[0])
  inner_y, before_y, after_y, height = _span(top, side, rows, size[1])
  part = image[inner_y, inner_x]
  shrinks = part.shape[0] >= height and part.shape[1] >= width
  method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
  # Scaled first, padded after: a banner of 30,000 x 10 pixels stays small.
  crop = cv2.resize(part, (width, height), interpolation=method)
  if before_x or after_x or before_y or after_y:
    crop = cv2.copyMakeBorder(
      crop, before_y, after_y, before_x, after_x, cv2.BORDER_REPLICATE
    )
  return crop


def _span(
  start: int, side: int, length: int, size: int
) -> tuple[slice, int, int, int]:
  """One axis of a square that may leave the image.

  Args:
    start: first pixel of the square.
    side: its length in the image.
    length: of the image.
    size: of the crop.

  Returns:
    The pixels inside the image, and how many pixels of the crop lie before,
    after and inside them.
  """
  first, last = max(start, 0), min(start + side, length)
  before = min(round((first - start) * size / side), size - 1)
  stop = max(before + 1, round((last - start) * size / side))
  return slice(first, last), before, size - stop, stop - before


def golden_difference(
  classifier: Classifier, bundle: pathlib.Path
) -> tuple[float, int]:
  """Largest difference to the probabilities recorded with the bundle.

  Returns:
    The largest absolute difference, and the number of images compared.

  Raises:
    ModelError: the recorded pairs do not fit the model.
  """
  import numpy as np

  file = bundle / 'golden.npz'
  key = 'probabilities'
  if classifier.precision == 'int8':
    key = 'probabilities_int8'
  try:
    with np.load(file, allow_pickle=False) as golden:
      images, expected = golden['image'], golden[key]
  except (OSError, KeyError, ValueError) as error:
    raise runtime.ModelError(f'{file}: cannot be used: {error}') from None
  fits = (
    images.dtype == np.uint8
    and len(images) > 0
    and images.shape[1:] == classifier.input_shape
    and expected.shape == (len(images), len(classifier.labels))
  )
  if not fits:
    raise runtime.ModelError(
      f'{file}: images {images.shape} and {key} {expected.shape} do not fit '
      f'the model'
    )
  got = np.stack([classifier.classify(image) for image in images])
  return float(np.abs(got - expected).max()), len(images)
