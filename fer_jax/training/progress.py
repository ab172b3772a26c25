"""Progress on the terminal and metrics as JSON lines."""

from __future__ import annotations

import json
import os
import pathlib
import sys
from typing import Any

import tqdm

__all__ = ['Clock', 'MetricsLog', 'Progress', 'say']


def say(text: str) -> None:
  """A line on standard error that does not tear the progress bar."""
  tqdm.tqdm.write(text, file=sys.stderr)


def _span(seconds: float) -> str:
  minutes, s = divmod(round(seconds), 60)
  hours, m = divmod(minutes, 60)
  return f'{hours}:{m:02}:{s:02}' if hours else f'{m}:{s:02}'


class Clock:
  """Splits the run's time into compiling, training, evaluating, saving."""

  def __init__(self):
    self.seconds: dict[str, float] = {}
    self.images = 0

  def add(self, kind: str, seconds: float, images: int = 0) -> None:
    """Books `seconds` under `kind`; `images` count towards the speed."""
    self.seconds[kind] = self.seconds.get(kind, 0.0) + seconds
    self.images += images

  @property
  def images_per_second(self) -> float:
    """Training speed, compilation and evaluation left out."""
    return self.images / max(self.seconds.get('train', 0.0), 1e-9)

  def __str__(self) -> str:
    return ', '.join(f'{k} {_span(v)}' for k, v in self.seconds.items())


class MetricsLog:
  """`metrics.jsonl`: one JSON object a line, appended and flushed.

  On resuming, lines after the restored step are dropped: they will be written
  again. A line torn by a kill is dropped too.
  """

  def __init__(
    self,
    workdir: str | os.PathLike[str],
    resume_step: int,
    tensorboard: bool = False,
  ):
    self._path = pathlib.Path(workdir) / 'metrics.jsonl'
    kept = []
    if self._path.exists():
      for line in self._path.read_text().splitlines():
        try:
          if json.loads(line)['step'] <= resume_step:
            kept.append(line)
        except (ValueError, KeyError, TypeError):
          continue
    temporary = self._path.with_suffix('.tmp')
    temporary.write_text(''.join(line + '\n' for line in kept))
    os.replace(temporary, self._path)
    self._file = self._path.open('a')
    self._board = None
    if tensorboard:
      try:
        from tensorboardX import SummaryWriter
      except ImportError:
        raise ValueError(
          'tensorboard=True needs the package tensorboardX: pip install '
          'tensorboardX, or leave it off (metrics.jsonl is always written)'
        ) from None
      self._board = SummaryWriter(os.fspath(workdir))

  def write(self, step: int, **values: Any) -> None:
    """Appends one line."""
    self._file.write(json.dumps({'step': step, **values}) + '\n')
    self._file.flush()
    if self._board:
      for key, value in values.items():
        if isinstance(value, int | float):
          self._board.add_scalar(key, value, step)

  def close(self) -> None:
    """Closes the files."""
    self._file.close()
    if self._board:
      self._board.close()


class Progress:
  """One bar for the whole training: epoch, images/s, time left."""

  def __init__(self, total: int, done: int, enabled: bool):
    self._bar = tqdm.tqdm(
      total=total,
      initial=done,
      unit='step',
      disable=not enabled,
      dynamic_ncols=True,
      mininterval=1.0,
      file=sys.stderr,
    )

  def advance(self, steps: int, text: str) -> None:
    """Moves the bar and shows `text` behind it."""
    self._bar.set_postfix_str(text, refresh=False)
    self._bar.update(steps)

  def close(self) -> None:
    """Leaves the finished bar on the screen."""
    self._bar.close()
