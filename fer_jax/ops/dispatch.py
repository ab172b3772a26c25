"""Which formulation of an operation is traced."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

import jax

from fer_jax.ops import build

__all__ = ['IMPLEMENTATIONS', 'current', 'implementation']

IMPLEMENTATIONS = ('auto', 'lax', 'cpu', 'native', 'shifted')

_choice: contextvars.ContextVar[str] = contextvars.ContextVar(
  'fer_jax_ops', default='auto'
)


@contextlib.contextmanager
def implementation(name: str) -> Iterator[None]:
  """Chooses the formulation for everything traced inside the block.

  Args:
    name: 'lax' (the ordinary operations; used by export), 'native' (C++
      kernels, float32 on a CPU), 'shifted' (XLA formulations that suit a CPU),
      'cpu' ('native' where the kernels can be built, else 'shifted'), or 'auto'
      ('cpu' where JAX's default backend is a CPU, else 'lax').

  Raises:
    ValueError: unknown name, or 'native' where the kernels cannot be built.
  """
  if name not in IMPLEMENTATIONS:
    raise ValueError(
      f'unknown implementation {name!r}; choose one of '
      f'{", ".join(IMPLEMENTATIONS)}'
    )
  if name == 'native' and not build.available():
    raise ValueError(f'the CPU kernels cannot be built: {build.register()}')
  token = _choice.set(name)
  try:
    yield
  finally:
    _choice.reset(token)


def current() -> str:
  """The formulation in force: 'lax', 'native' or 'shifted'."""
  name = _choice.get()
  if name == 'auto':
    name = 'cpu' if jax.default_backend() == 'cpu' else 'lax'
  if name == 'cpu':
    name = 'native' if build.available() else 'shifted'
  return name
