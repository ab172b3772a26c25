"""The runtime for the device: pictures in, faces and expressions out.

  from fer_jax.edge import Recognizer

  for face in Recognizer()('photo.jpg'):
    print(face.label, face.box)

Needs numpy, ai-edge-litert and OpenCV only, and loads them when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING
from typing import Any

if TYPE_CHECKING:
  from fer_jax.edge.recognizer import Face
  from fer_jax.edge.recognizer import Recognizer
  from fer_jax.edge.recognizer import Result

__all__ = ['Face', 'Recognizer', 'Result']


def __getattr__(name: str) -> Any:
  if name in __all__:
    return getattr(importlib.import_module('fer_jax.edge.recognizer'), name)
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
