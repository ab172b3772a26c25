"""Which split of a data set is for what, and how its figures must be read."""

from __future__ import annotations

import dataclasses

__all__ = ['Protocol', 'get']


@dataclasses.dataclass(frozen=True)
class Protocol:
  """How a data set is used.

  Attributes:
    train: split the weights see (and int8 calibration images come from).
    validation: split that models, epochs and the temperature are chosen on.
    test: split reported once.
    text: the above in a sentence, for reports.
    terms: what the data's terms allow trained weights to be used for.
  """

  train: str
  validation: str
  test: str
  text: str
  terms: str


_PROTOCOLS = {
  'fer2013': Protocol(
    train='train',
    validation='public_test',
    test='private_test',
    text=(
      'Official split of FER-2013: trained on Training, selected (epoch, '
      'temperature) on PublicTest, reported once on PrivateTest. The split '
      'leaks: some test images are pixel-identical to a training image, so the '
      'accuracy on test images without such a twin stands beside the official '
      'one.'
    ),
    terms='research use only',
  ),
  'rendered_faces': Protocol(
    train='train',
    validation='val',
    test='test',
    text=(
      'Procedurally drawn faces, no photographs: trained on train, selected '
      '(epoch, temperature) on val, reported once on test. The figures say '
      'nothing about real faces.'
    ),
    terms='no restriction: the images are drawn by this library',
  ),
}


def get(name: str) -> Protocol:
  """The protocol of data set `name`.

  Raises:
    ValueError: none is written down; the message lists the sets that have one.
  """
  if name not in _PROTOCOLS:
    raise ValueError(
      f'no evaluation protocol for data set {name!r}; there is one for '
      f'{", ".join(_PROTOCOLS)}'
    )
  return _PROTOCOLS[name]
