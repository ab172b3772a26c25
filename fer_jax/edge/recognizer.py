"""Composition: a detector and a classifier, on pictures and files."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fer_jax.edge import classifier
from fer_jax.edge import detectors
from fer_jax.edge import sources

if TYPE_CHECKING:
  import numpy as np

__all__ = ['Face', 'Recognizer', 'Result']


@dataclasses.dataclass(frozen=True)
class Face:
  """A face and its expression.

  Attributes:
    box: x0, y0, x1, y1 in pixels of the upright picture.
    score: how sure the detector is, in [0, 1].
    label: the most probable expression.
    probabilities: label -> probability, in the order of the model.
  """

  box: tuple[float, float, float, float]
  score: float
  label: str
  probabilities: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Result:
  """What was found in one file.

  Attributes:
    path: as it was given.
    width: of the upright picture, None where it could not be read.
    height: likewise.
    faces: best first; empty where there is none.
    error: why the file could not be read, None if it could.
  """

  path: str
  width: int | None
  height: int | None
  faces: tuple[Face, ...]
  error: str | None = None


class Recognizer:
  """Finds faces and tells their expressions; threads may share one.

  Attributes:
    classifier: the expression network.
    detector: the face detector.

  Args:
    model: name or folder of a classifier bundle; None takes the default.
    detector: 'auto', 'grid', 'mtcnn', 'haar', 'full-frame', a detector bundle,
      or any object that fits `detectors.Detector`.
    precision: 'int8', 'float16' or 'float32'.
    threads: threads of the interpreters; None lets them choose.
    min_score: score in [0, 1] from which a face counts; None takes the
      detector's own.

  Raises:
    BundleError: the model is unknown or damaged.
    DetectorError: the detector is unknown or not installed.
  """

  def __init__(
    self,
    model: str | os.PathLike[str] | None = None,
    detector: str | detectors.Detector = 'auto',
    *,
    precision: str = 'int8',
    threads: int | None = None,
    min_score: float | None = None,
  ):
    self.classifier = classifier.Classifier(
      model, precision=precision, threads=threads
    )
    if isinstance(detector, str):
      detector = detectors.create(
        detector, precision=precision, threads=threads, min_score=min_score
      )
    self.detector = detector

  @property
  def labels(self) -> tuple[str, ...]:
    """Class names in the order of the probabilities."""
    return self.classifier.labels

  def __call__(
    self, image: np.ndarray | str | os.PathLike[str]
  ) -> tuple[Face, ...]:
    """Faces in a picture.

    Args:
      image: a path, or uint8 `[h, w, 3]` RGB or `[h, w]` grey, upright.

    Returns:
      The faces, best first, boxes in pixels of `image`.

    Raises:
      ImageError: the file cannot be read, or the array is no picture.
    """
    if isinstance(image, (str, os.PathLike)):
      return self._faces(sources.read(image))
    pixels = _checked(image)
    height, width = pixels.shape[:2]
    return self._faces(sources.Image(pixels, width, height))

  def recognize(self, path: str) -> tuple[Result, sources.Image | None]:
    """Recognises one file; an unreadable one gives a result with an error.

    Returns:
      The result, and the picture for those who want to draw on it.
    """
    try:
      image = sources.read(path)
    except sources.ImageError as error:
      return Result(path, None, None, (), str(error)), None
    faces = self._faces(image)
    return Result(path, image.width, image.height, faces), image

  def results(self, paths: Iterable[str]) -> Iterator[Result]:
    """Recognises files, folders and patterns, one result a file."""
    for path, error in sources.expand(paths):
      if error is not None:
        yield Result(path, None, None, (), error)
      else:
        yield self.recognize(path)[0]

  def _faces(self, image: sources.Image) -> tuple[Face, ...]:
    # A picture decoded at reduced size has smaller pixels than its file.
    height, width = image.pixels.shape[:2]
    x, y = image.width / width, image.height / height
    faces = []
    for box, score in self.detector(image.pixels):
      probabilities = self.classifier(image.pixels, box, self.detector.margin)
      x0, y0, x1, y1 = box
      faces.append(
        Face(
          box=(x0 * x, y0 * y, x1 * x, y1 * y),
          score=score,
          label=self.labels[int(probabilities.argmax())],
          probabilities=dict(
            zip(self.labels, probabilities.tolist(), strict=True)
          ),
        )
      )
    return tuple(faces)


def _checked(image: np.ndarray) -> np.ndarray:
  """RGB `[h, w, 3]`, or a one-line error where it cannot be one."""
  import cv2
  import numpy as np

  pixels = np.asarray(image)
  if pixels.dtype != np.uint8:
    raise sources.ImageError(
      f'the image is {pixels.dtype}; give uint8 in 0..255'
    )
  if pixels.ndim == 3 and pixels.shape[2] == 1:
    pixels = pixels[..., 0]
  if pixels.size == 0 or not (
    pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
  ):
    raise sources.ImageError(
      f'the image has shape {pixels.shape}; give [h, w, 3] RGB or [h, w] grey'
    )
  if pixels.ndim == 2:
    return cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_GRAY2RGB)
  return np.ascontiguousarray(pixels)
