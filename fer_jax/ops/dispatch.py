"""Which formulation of an operation is traced."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

import jax

__all__ = ['IMPLEMENTATIONS', 'current', 'implementation']

IMPLEMENTATIONS = ('auto', 'lax', 'cpu')

_choice: contextvars.ContextVar[str] = contextvars.ContextVar(
  'fer_jax_ops', default='auto'
)


@contextlib.contextmanager
def implementation(name: str) -> Iterator[None]:
  """Chooses the formulation for everything traced inside the block.

  Args:
    name: 'lax' (the ordinary operations; used by export), 'cpu', or 'auto'
      ('cpu' where JAX's default backend is a CPU, else 'lax').

  Raises:
    ValueError: unknown name.
  """
  if name not in IMPLEMENTATIONS:
    raise ValueError(
      f'unknown implementation {name!r}; choose one of '
      f'{", ".join(IMPLEMENTATIONS)}'
    )
  token = _choice.set(name)
  try:
    yield
  finally:
    _choice.reset(token)


def current() -> str:
  """The formulation in force: 'lax' or 'cpu'."""
  name = _choice.get()
  if name == 'auto':
    return 'cpu' if jax.default_backend() == 'cpu' else 'lax'
  return name
