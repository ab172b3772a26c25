"""How long each stage takes here: decode, detect, classify, overlay."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from typing import Any

from fer_jax.edge import overlay
from fer_jax.edge import sources

if TYPE_CHECKING:
  from fer_jax.edge.recognizer import Recognizer

__all__ = ['measure', 'percentiles', 'sample_picture']

_WARM_UP = 3


def measure(
  recognizer: Recognizer, path: str | None, repeat: int
) -> dict[str, Any]:
  """Times every stage on one picture.

  Args:
    recognizer: detector and classifier to time.
    path: the picture; None takes a 640x480 one with a face of the bundle's
      golden pairs in its middle.
    repeat: times each stage is run, after three runs that do not count.

  Returns:
    The configuration and, per stage, percentiles in milliseconds. 'classify'
    is one face; where no face is found it is the middle of the picture.
  """
  image = sample_picture(recognizer) if path is None else sources.read(path)
  pixels = image.pixels
  faces = recognizer(pixels)
  height, width = pixels.shape[:2]
  box = (width * 0.35, height * 0.35, width * 0.65, height * 0.65)
  if faces:
    box = faces[0].box
  margin = recognizer.detector.margin
  stages: dict[str, Callable[[], Any]] = {
    'detect': lambda: recognizer.detector(pixels),
    'classify': lambda: recognizer.classifier(pixels, box, margin),
    'overlay': lambda: overlay.annotate(pixels, faces),
    'all': lambda: overlay.annotate(pixels, recognizer(pixels)),
  }
  if path is not None:
    stages = {'decode': lambda: sources.read(path), **stages}
  return {
    'model': recognizer.classifier.name,
    'precision': recognizer.classifier.precision,
    'detector': recognizer.detector.name,
    'picture': path,
    'width': width,
    'height': height,
    'faces': len(faces),
    'repeat': repeat,
    'milliseconds': {
      name: percentiles(_times(stage, repeat)) for name, stage in stages.items()
    },
  }


def sample_picture(recognizer: Recognizer) -> sources.Image:
  """A 640x480 picture, the same every time, without any file but the bundle."""
  import cv2
  import numpy as np

  file = recognizer.classifier.folder / 'golden.npz'
  with np.load(file, allow_pickle=False) as golden:
    face = golden['image'][0]
  face = cv2.resize(face, (240, 240), interpolation=cv2.INTER_CUBIC)
  pixels = np.full((480, 640, 3), 128, np.uint8)
  pixels[120:360, 200:440] = face.reshape(240, 240, -1)
  return sources.Image(pixels, 640, 480)


def _times(stage: Callable[[], Any], repeat: int) -> list[float]:
  times = []
  for _ in range(_WARM_UP + repeat):
    start = time.perf_counter()
    stage()
    times.append(1e3 * (time.perf_counter() - start))
  return times[_WARM_UP:]


def percentiles(values: list[float]) -> dict[str, float]:
  """p50, p95 and p99."""
  import numpy as np

  return {
    f'p{p}': round(float(np.percentile(values, p)), 3) for p in (50, 95, 99)
  }
