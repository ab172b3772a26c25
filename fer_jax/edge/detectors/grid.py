"""A trained detector in a bundle: letterbox, run, suppress.

The `.tflite` decodes its own grid, so any detector whose signature gives boxes
in [0, 1] and scores works here without a change.
"""

from __future__ import annotations

import pathlib
import threading
from typing import TYPE_CHECKING

from fer_jax import bundles
from fer_jax.edge import runtime
from fer_jax.edge.detectors.base import Detection
from fer_jax.edge.detectors.base import clip_detections
from fer_jax.edge.detectors.base import suppress

if TYPE_CHECKING:
  import numpy as np

__all__ = ['Grid', 'available', 'detector_bundles']

_PADDING = 114  # mid grey: no edge that looks like a face


def detector_bundles() -> list[str]:
  """Names of the bundles that hold detectors."""
  return [
    name
    for name in bundles.names()
    if bundles.metadata(bundles.find(name))['kind'] == 'detector'
  ]


def available() -> bool:
  """Whether any bundle holds a detector."""
  return bool(detector_bundles())


class Grid:
  """Face detector from a bundle of kind 'detector'.

  Signature `serving_default`: `image` uint8 `[1, H, W, C]` -> `boxes` float32
  `[1, N, 4]` (x0, y0, x1, y1 in [0, 1] of the network's input) and `scores`
  float32 `[1, N]` in [0, 1].

  Args:
    bundle: folder of the bundle.
    precision: 'int8', 'float16' or 'float32'.
    threads: threads of the interpreter; None lets it choose.
    min_score: score from which a face counts.
    iou_threshold: overlap from which two boxes are one face.
  """

  margin = 0.1

  def __init__(
    self,
    bundle: pathlib.Path,
    *,
    precision: str = 'int8',
    threads: int | None = None,
    min_score: float | None = None,
    iou_threshold: float = 0.45,
  ):
    self.name = bundle.name
    self._min_score = 0.5 if min_score is None else min_score
    self._iou_threshold = iou_threshold
    model = runtime.load(
      bundle, precision=precision, threads=threads, kind='detector'
    )
    self._height, self._width, self._channels = model.input_shape
    shapes = model.output_shapes
    count = shapes.get('scores', (0, 0))[-1]
    wanted = {'boxes': (1, count, 4), 'scores': (1, count)}
    if shapes != wanted:
      raise runtime.ModelError(
        f'{model.path}: its outputs are {shapes}, a detector gives {wanted}'
      )
    self._model = model
    self._lock = threading.Lock()

  def __call__(self, image: np.ndarray) -> list[Detection]:
    import numpy as np

    height, width = image.shape[:2]
    canvas, scale = letterbox(image, self._width, self._height)
    outputs = self._model(runtime.to_channels(canvas, self._channels)[None])
    size = np.array(
      [self._width, self._height, self._width, self._height], np.float64
    )
    boxes = outputs['boxes'][0] * size / scale
    scores = outputs['scores'][0].astype(np.float64)
    chosen = scores >= self._min_score
    boxes, scores = boxes[chosen], scores[chosen]
    keep = suppress(boxes, scores, self._iou_threshold)
    return clip_detections(boxes[keep], scores[keep], width, height)


def letterbox(
  image: np.ndarray, width: int, height: int
) -> tuple[np.ndarray, np.ndarray]:
  """Fits an image into the upper left of a canvas, its proportions kept.

  Returns:
    The canvas uint8 `[height, width, 3]`, and the scales (x, y, x, y) from
    image to canvas: the two differ by the rounding of the size.
  """
  import cv2
  import numpy as np

  rows, columns = image.shape[:2]
  scale = min(width / columns, height / rows)
  size = max(1, round(columns * scale)), max(1, round(rows * scale))
  method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
  canvas = np.full((height, width, 3), _PADDING, np.uint8)
  canvas[: size[1], : size[0]] = cv2.resize(image, size, interpolation=method)
  x, y = size[0] / columns, size[1] / rows
  return canvas, np.array([x, y, x, y])
