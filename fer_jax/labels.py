"""Label sets of the data sets, their order, and the mappings between them.

Nothing but the standard library is imported here: the device runtime uses this
module too.
"""

from __future__ import annotations

import dataclasses

__all__ = ['LABEL_SETS', 'LabelSet', 'get', 'mapping']


@dataclasses.dataclass(frozen=True)
class LabelSet:
  """An ordered set of expression names.

  Attributes:
    name: how configs and bundles call the set.
    names: class names; the position is the class index.
  """

  name: str
  names: tuple[str, ...]

  def __len__(self) -> int:
    return len(self.names)

  def index(self, label: str) -> int:
    """Class index of `label`; raises `ValueError` listing the choices."""
    try:
      return self.names.index(label)
    except ValueError:
      raise ValueError(
        f'label set {self.name!r} has no {label!r}; it has '
        f'{", ".join(self.names)}'
      ) from None


# Canonical names, used in every set, so that mappings go by name.
_FER2013 = ('angry', 'disgust', 'fear', 'happy', 'sad', 'surprise', 'neutral')

LABEL_SETS: dict[str, LabelSet] = {
  s.name: s
  for s in (
    # fer2013.csv codes 0..6.
    LabelSet('fer2013', _FER2013),
    # The columns of fer2013new.csv, first the eight expressions, then the two
    # votes against an image.
    LabelSet(
      'ferplus',
      (
        'neutral', 'happy', 'surprise', 'sad', 'angry', 'disgust', 'fear',
        'contempt', 'unknown', 'not_a_face',
      ),
    ),
    # CK+ emotion codes 1..7, in that order.
    LabelSet(
      'ckplus',
      ('angry', 'contempt', 'disgust', 'fear', 'happy', 'sad', 'surprise'),
    ),
    # The eight-class problem of MicroExpNet: CK+ with the neutral first frame.
    LabelSet(
      'ckplus8',
      (
        'neutral', 'angry', 'contempt', 'disgust', 'fear', 'happy', 'sad',
        'surprise',
      ),
    ),
    # KDEF file name codes AF AN DI HA NE SA SU, alphabetical by code.
    LabelSet(
      'kdef',
      ('fear', 'angry', 'disgust', 'happy', 'neutral', 'sad', 'surprise'),
    ),
    # The four classes of the IoT recogniser, in that paper's order.
    LabelSet('iot4', ('neutral', 'angry', 'surprise', 'happy')),
    # Procedurally drawn faces carry the FER-2013 classes.
    LabelSet('rendered_faces', _FER2013),
  )
}  # fmt: skip


def get(name: str) -> LabelSet:
  """The label set called `name`.

  Raises:
    ValueError: no such set; the message lists the choices.
  """
  if name not in LABEL_SETS:
    raise ValueError(
      f'unknown label set {name!r}; choose one of '
      f'{", ".join(sorted(LABEL_SETS))}'
    )
  return LABEL_SETS[name]


def mapping(source: str, target: str) -> tuple[int | None, ...]:
  """For each class of `source` its index in `target`, or None where missing.

  >>> mapping('fer2013', 'iot4')
  (1, None, None, 3, None, 2, 0)
  """
  names = get(target).names
  return tuple(
    names.index(n) if n in names else None for n in get(source).names
  )
