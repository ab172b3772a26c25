"""A folder that appears complete or not at all."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

__all__ = ['atomic_folder']


def _is_running(pid: int) -> bool:
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  except PermissionError:
    return True
  return True


def _remove_leftovers(target: pathlib.Path) -> None:
  """Removes temporary folders of `target` whose process is gone."""
  for path in target.parent.glob(f'.{target.name}.*.partial-*'):
    pid = path.name.split('.')[2]
    if pid.isdecimal() and not _is_running(int(pid)):
      shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def atomic_folder(target: pathlib.Path) -> Iterator[pathlib.Path]:
  """A temporary folder that becomes `target` when the block succeeds.

  It lies beside `target`, so that the final rename moves no data; killed at
  any moment, `target` is as it was before. What an earlier, killed process
  left behind is removed.
  """
  target.parent.mkdir(parents=True, exist_ok=True)
  _remove_leftovers(target)
  made = pathlib.Path(
    tempfile.mkdtemp(
      prefix=f'.{target.name}.{os.getpid()}.partial-', dir=target.parent
    )
  )
  try:
    fresh = made / 'new'
    fresh.mkdir()
    yield fresh
    if target.exists():
      target.rename(made / 'old')
    fresh.rename(target)
  finally:
    shutil.rmtree(made, ignore_errors=True)
