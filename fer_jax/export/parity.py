"""Does an exported file give what the network in JAX gives?

Run on real images for every file written. Both runtimes are those that users
have: JAX as trained, and ai-edge-litert.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from fer_jax.evaluation import metrics

__all__ = ['LIMITS', 'Limits', 'Parity', 'ParityError', 'check', 'compare']


class ParityError(ValueError):
  """An exported file differs from the network by more than allowed."""


@dataclasses.dataclass(frozen=True)
class Limits:
  """How far a file may be from the network; None sets no limit.

  Attributes:
    max_error: largest absolute difference of a probability.
    min_agreement: share of images with the same first choice.
    max_accuracy_drop: accuracy of the network minus that of the file, 0..1.
  """

  max_error: float | None = None
  min_agreement: float | None = None
  max_accuracy_drop: float | None = None


# int8 is judged by what it decides: single probabilities move by several steps
# of 1/256, and near-ties fall either way. 0.02 is wide because a parity run has
# some hundred images only; the released figure is that of experiments.evaluate.
LIMITS = {
  'float32': Limits(max_error=1e-5),
  'float16': Limits(max_error=1e-2, min_agreement=0.98),
  'int8': Limits(min_agreement=0.9, max_accuracy_drop=0.02),
}


@dataclasses.dataclass(frozen=True)
class Parity:
  """What a comparison found.

  Attributes:
    n: images compared.
    max_error: largest absolute difference of a probability.
    mean_error: mean absolute difference.
    agreement: share of images with the same first choice.
    accuracy: of the network, None without labels.
    file_accuracy: of the file, None without labels.
  """

  n: int
  max_error: float
  mean_error: float
  agreement: float
  accuracy: float | None = None
  file_accuracy: float | None = None

  def as_dict(self) -> dict[str, Any]:
    return dataclasses.asdict(self)


def compare(
  reference: np.ndarray, found: np.ndarray, labels: np.ndarray | None = None
) -> Parity:
  """Differences between two sets of probabilities `[N, K]`."""
  reference = np.asarray(reference, np.float64)
  found = np.asarray(found, np.float64)
  if reference.shape != found.shape or not len(reference):
    raise ParityError(
      f'nothing to compare: probabilities are {list(found.shape)}, those of '
      f'the network {list(reference.shape)}'
    )
  error = np.abs(reference - found)
  accuracy = file_accuracy = None
  if labels is not None:
    accuracy = metrics.Sums.of(reference, labels).accuracy
    # argmax of NaN is meaningless; check() refuses such a file by its error.
    finite = np.nan_to_num(found, nan=-1.0)
    file_accuracy = float(np.mean(finite.argmax(axis=1) == labels))
  return Parity(
    n=len(reference),
    max_error=float(error.max()),
    mean_error=float(error.mean()),
    agreement=metrics.agreement(reference, found),
    accuracy=accuracy,
    file_accuracy=file_accuracy,
  )


def check(
  file: str,
  reference: np.ndarray,
  found: np.ndarray,
  limits: Limits,
  labels: np.ndarray | None = None,
) -> Parity:
  """`compare`, and refuse what is beyond `limits`.

  Args:
    file: name for the message.
    reference: probabilities `[N, K]` of the network in JAX.
    found: probabilities `[N, K]` of the file in ai-edge-litert.
    limits: what is allowed.
    labels: int `[N]`; needed for `limits.max_accuracy_drop` to count.

  Raises:
    ParityError: names the file, the figure and the limit.
  """
  parity = compare(reference, found, labels)
  where = f'on {parity.n} images'
  # Written so that NaN fails.
  if limits.max_error is not None and not parity.max_error <= limits.max_error:
    raise ParityError(
      f'{file}: a probability is {parity.max_error:.3g} off JAX {where}, '
      f'allowed is {limits.max_error:.3g}'
    )
  if not np.isfinite(found).all():
    raise ParityError(f'{file}: gives NaN or infinity {where}')
  if (
    limits.min_agreement is not None
    and not parity.agreement >= limits.min_agreement
  ):
    raise ParityError(
      f'{file}: same first choice as JAX on {100 * parity.agreement:.2f} % '
      f'{where}, wanted {100 * limits.min_agreement:.2f} %'
    )
  if limits.max_accuracy_drop is not None and parity.accuracy is not None:
    drop = parity.accuracy - parity.file_accuracy
    if not drop <= limits.max_accuracy_drop:
      raise ParityError(
        f'{file}: accuracy {100 * parity.file_accuracy:.2f} % is '
        f'{100 * drop:.2f} points below JAX {where}, allowed are '
        f'{100 * limits.max_accuracy_drop:.2f}'
      )
  return parity
