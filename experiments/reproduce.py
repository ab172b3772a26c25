"""A paper's table beside ours, from recorded results.

Examples:
  python -m experiments.reproduce fer2013
  python -m experiments.reproduce readme

`fer2013` prints the light-weight CNN paper's figures on FER-2013 beside those
of every released bundle; `readme` writes the results table into README.md.
Ours are read from checkpoints/*/metrics.json, which experiments.evaluate wrote;
the paper's are marked as quoted.
"""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from absl import flags

from experiments import _cli

_FLAGS = flags.FlagValues()
_CHECKPOINTS = flags.DEFINE_string(
  'checkpoints', 'checkpoints', 'Folder of bundles.', flag_values=_FLAGS
)
_README = flags.DEFINE_string(
  'readme', 'README.md', 'File that `readme` rewrites.', flag_values=_FLAGS
)

# A Light Weight CNN For Real time Facial Expression Detection: Section IV,
# Table 1 (row-normalised diagonal) and Table 3.
QUOTED_FER2013 = {
  'accuracy': 0.67,
  'parameters': 58423,
  'recall': {
    'angry': 0.62, 'disgust': 0.55, 'fear': 0.40, 'happy': 0.88, 'sad': 0.53,
    'surprise': 0.75, 'neutral': 0.65,
  },
}  # fmt: skip
_BEGIN, _END = '<!-- results: begin -->', '<!-- results: end -->'


def _percent(value: float | None) -> str:
  return '' if value is None else f'{100 * value:.2f}'


def released(root: str | os.PathLike[str]) -> list[dict[str, Any]]:
  """What is recorded of each bundle in `root`, by name.

  Raises:
    ValueError: no bundle has results.
  """
  found = []
  for path in sorted(pathlib.Path(root).glob('*/metrics.json')):
    record = json.loads(path.read_text())
    record['bundle'] = path.parent
    found.append(record)
  if not found:
    raise ValueError(
      f'{root}: no bundle with a metrics.json; run python -m '
      'experiments.export and experiments.evaluate first'
    )
  return found


def results_table(records: Sequence[dict[str, Any]]) -> str:
  """Markdown: each bundle on its test split, float and int8."""
  lines = [
    '| bundle | parameters | test split | n | float32 | 95 % interval | int8 | '
    'no twin in training | int8 file |',
    '|---|---|---|---|---|---|---|---|---|',
  ]
  for record in records:
    split = record['split']  # the one that was held out
    report = record['splits'][split]
    sources = report['sources']
    plain = sources['jax']
    int8 = sources.get('model_int8.tflite')
    low, high = plain['accuracy_interval_95']
    size = (record['bundle'] / 'model_int8.tflite').stat().st_size
    lines.append(
      f'| `{record["bundle"].name}` | {record["parameters"]:,} | {split} | '
      f'{report["n"]} | {_percent(plain["accuracy"])} % | '
      f'{_percent(low)}-{_percent(high)} | '
      f'{_percent(int8["accuracy"]) + " %" if int8 else ""} | '
      f'{_percent(plain.get("no_twin", {}).get("accuracy"))} % | '
      f'{size / 1000:.0f} kB |'
    )
  return '\n'.join(lines)


def fer2013_table(records: Sequence[dict[str, Any]]) -> str:
  """Text: the paper's accuracy and recalls beside each FER-2013 bundle."""
  ours = [r for r in records if 'private_test' in r['splits']]
  names = list(QUOTED_FER2013['recall'])
  header = ['', 'paper (quoted)', *(r['bundle'].name for r in ours)]
  reports = [r['splits']['private_test']['sources']['jax'] for r in ours]
  rows = [
    [
      'parameters', f'{QUOTED_FER2013["parameters"]:,}',
      *(f'{r["parameters"]:,}' for r in ours),
    ],
    [
      'accuracy %', _percent(QUOTED_FER2013['accuracy']),
      *(_percent(r['accuracy']) for r in reports),
    ],
  ]  # fmt: skip
  for name in names:
    rows.append(
      [
        f'recall {name} %',
        _percent(QUOTED_FER2013['recall'][name]),
        *(_percent(r['recall'].get(name)) for r in reports),
      ]
    )
  widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
  return '\n'.join(
    '  '.join(
      cell.ljust(w) if i == 0 else cell.rjust(w)
      for i, (cell, w) in enumerate(zip(row, widths, strict=True))
    ).rstrip()
    for row in [header, *rows]
  )


def write_readme(path: str | os.PathLike[str], table: str) -> None:
  """Replaces what stands between the result marks of a README.

  Raises:
    ValueError: the marks are missing.
  """
  path = pathlib.Path(path)
  text = path.read_text()
  if _BEGIN not in text or _END not in text:
    raise ValueError(f'{path}: lacks the marks {_BEGIN} and {_END}')
  before, rest = text.split(_BEGIN, 1)
  after = rest.split(_END, 1)[1]
  path.write_text(f'{before}{_BEGIN}\n{table}\n{_END}{after}')


def _main(argv: Sequence[str], what: str) -> None:
  records = released(_CHECKPOINTS.value)
  if what == 'readme':
    write_readme(_README.value, results_table(records))
    print(f'{_README.value}: results table written')
  else:
    print(fer2013_table(records))


def run(argv: Sequence[str] | None = None) -> int:
  """The command; returns its exit code."""
  import sys

  argv = list(sys.argv[1:] if argv is None else argv)
  words = [a for a in argv if not a.startswith('-')]
  rest = [a for a in argv if a.startswith('-')]

  def command(arguments: Sequence[str]) -> None:
    if len(words) != 1 or words[0] not in ('fer2013', 'readme'):
      raise _cli.UsageError(
        f'say what to reproduce: fer2013 or readme, not {" ".join(words)!r}'
      )
    _main(arguments, words[0])

  return _cli.run(
    command, _FLAGS, rest, name='experiments.reproduce', doc=__doc__
  )


if __name__ == '__main__':
  raise SystemExit(run())
