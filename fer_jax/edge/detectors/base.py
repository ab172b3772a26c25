"""What every face detector gives, and the geometry they share."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import NamedTuple
from typing import Protocol

if TYPE_CHECKING:
  import numpy as np

__all__ = [
  'Detection',
  'Detector',
  'DetectorError',
  'clip_detections',
  'suppress',
]


class DetectorError(ValueError):
  """A detector is unknown or cannot run here; the message says what to do."""


class Detection(NamedTuple):
  """One face: box (x0, y0, x1, y1) in pixels, and score in [0, 1]."""

  box: tuple[float, float, float, float]
  score: float


class Detector(Protocol):
  """Finds faces.

  Attributes:
    name: what `--detector` and the results call it.
    margin: how much wider than the box the classifier's square is, as a
      fraction of the longer side of the box; 0 takes the box as it is.
  """

  name: str
  margin: float

  def __call__(self, image: np.ndarray) -> list[Detection]:
    """Faces in an upright uint8 RGB `[h, w, 3]` image, best score first.

    Boxes lie inside the image. Thread-safe.
    """


def suppress(
  boxes: np.ndarray,
  scores: np.ndarray,
  threshold: float,
  *,
  by_smaller: bool = False,
) -> np.ndarray:
  """Greedy non-maximum suppression.

  Args:
    boxes: `[n, 4]`, x0, y0, x1, y1.
    scores: `[n]`.
    threshold: boxes that overlap a better one by more than this are dropped.
    by_smaller: measure the overlap against the smaller box instead of the
      union, which also drops a box inside another.

  Returns:
    Indices of the boxes kept, best score first.
  """
  import numpy as np

  areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
  # A stable sort keeps the result the same on every platform.
  order = np.argsort(-scores, kind='stable')
  kept = []
  while order.size:
    best, order = order[0], order[1:]
    kept.append(best)
    low = np.maximum(boxes[best, :2], boxes[order, :2])
    high = np.minimum(boxes[best, 2:], boxes[order, 2:])
    inside = np.prod(np.clip(high - low, 0, None), axis=1)
    if by_smaller:
      whole = np.minimum(areas[best], areas[order])
    else:
      whole = areas[best] + areas[order] - inside
    order = order[inside <= threshold * whole]
  return np.asarray(kept, dtype=np.int64)


def clip_detections(
  boxes: np.ndarray, scores: np.ndarray, width: int, height: int
) -> list[Detection]:
  """Cuts boxes `[n, 4]` at the image's edges and drops what is left empty."""
  import numpy as np

  limit = np.array([width, height, width, height], np.float64)
  found = []
  for box, score in zip(boxes, scores, strict=True):
    x0, y0, x1, y1 = (float(v) for v in np.clip(box, 0, limit))
    # Less than a pixel holds no face; NaN fails the comparison too.
    if x1 - x0 >= 1 and y1 - y0 >= 1:
      found.append(Detection((x0, y0, x1, y1), float(score)))
  return found
