"""OpenCV's Haar cascade (Viola and Jones, 2001).

Only OpenCV 4 carries it: version 5 has neither the class nor the cascades.
"""

from __future__ import annotations

import os
import pathlib
import threading
from typing import TYPE_CHECKING

from fer_jax.edge.detectors.base import Detection
from fer_jax.edge.detectors.base import DetectorError
from fer_jax.edge.detectors.base import clip_detections

if TYPE_CHECKING:
  import numpy as np

__all__ = ['Haar', 'available']

_FILE = 'haarcascade_frontalface_default.xml'
# Long side of the picture searched: bounds the time of large photos.
_WORKING_SIDE = 1280


def _cascade() -> pathlib.Path:
  """The cascade's file: `$FER_JAX_HAAR_CASCADE`, or the one inside OpenCV."""
  import cv2

  if os.environ.get('FER_JAX_HAAR_CASCADE'):
    return pathlib.Path(os.environ['FER_JAX_HAAR_CASCADE'])
  return pathlib.Path(cv2.__file__).parent / 'data' / _FILE


def available() -> bool:
  """Whether this OpenCV has the cascade classifier and a cascade is there."""
  import cv2

  return hasattr(cv2, 'CascadeClassifier') and _cascade().is_file()


class Haar:
  """Haar cascade for frontal faces.

  Args:
    min_score: the cascade's level weight needed, squashed to [0, 1].
  """

  name = 'haar'
  # The cascade's box is the face without its edge, much as in FER-2013, whose
  # crops were made with a cascade.
  margin = 0.0

  def __init__(self, min_score: float | None = None):
    import cv2

    if not available():
      raise DetectorError(
        "detector 'haar' needs OpenCV 4 with its cascades "
        "(pip install 'opencv-python-headless<5')"
      )
    self._min_score = 0.5 if min_score is None else min_score
    self._cascade = cv2.CascadeClassifier(str(_cascade()))
    if self._cascade.empty():
      raise DetectorError(f'{_cascade()}: not a cascade')
    self._lock = threading.Lock()

  def __call__(self, image: np.ndarray) -> list[Detection]:
    import cv2
    import numpy as np

    height, width = image.shape[:2]
    scale = min(1.0, _WORKING_SIDE / max(height, width))
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if scale < 1:
      size = max(1, round(width * scale)), max(1, round(height * scale))
      grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    with self._lock:
      boxes, _, weights = self._cascade.detectMultiScale3(
        cv2.equalizeHist(grey),
        scaleFactor=1.1,
        minNeighbors=5,
        minSize=(20, 20),
        outputRejectLevels=True,
      )
    if not len(boxes):
      return []
    # The weights are margins without a unit; tanh puts them in [0, 1] and
    # keeps their order.
    scores = np.tanh(np.clip(np.ravel(weights) / 4, 0, None))
    boxes = np.asarray(boxes, np.float64)
    boxes[:, 2:] += boxes[:, :2]
    keep = scores >= self._min_score
    order = np.argsort(-scores[keep], kind='stable')
    return clip_detections(
      boxes[keep][order] / scale, scores[keep][order], width, height
    )
