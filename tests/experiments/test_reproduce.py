"""Tables come from recorded results, and the README shows the same ones."""

from __future__ import annotations

import json
import pathlib

import pytest

from experiments import reproduce

_ROOT = pathlib.Path(__file__).parents[2]


def _bundle(root, accuracy=0.5):
  folder = root / 'net'
  folder.mkdir(parents=True)
  recall = {name: 0.25 for name in reproduce.QUOTED_FER2013['recall']}
  source = {
    'accuracy': accuracy, 'accuracy_interval_95': [0.4, 0.6],
    'no_twin': {'accuracy': 0.45, 'n': 3}, 'recall': recall,
  }  # fmt: skip
  splits = {
    'public_test': {'n': 9, 'sources': {'jax': source}},
    'private_test': {
      'n': 4,
      'sources': {'jax': source, 'model_int8.tflite': {'accuracy': 0.49}},
    },
  }
  record = {'splits': splits, 'split': 'private_test', 'parameters': 58423}
  (folder / 'metrics.json').write_text(json.dumps(record))
  (folder / 'model_int8.tflite').write_bytes(b'0' * 98_000)


def test_results_table_has_the_test_split_only(tmp_path):
  _bundle(tmp_path)
  lines = reproduce.results_table(reproduce.released(tmp_path)).splitlines()
  assert len(lines) == 3
  assert lines[2] == (
    '| `net` | 58,423 | private_test | 4 | 50.00 % | 40.00-60.00 | 49.00 % | '
    '45.00 % | 98 kB |'
  )


def test_paper_beside_ours(tmp_path):
  _bundle(tmp_path)
  text = reproduce.fer2013_table(reproduce.released(tmp_path))
  rows = {line[:18].strip(): line.split()[-2:] for line in text.splitlines()}
  assert rows['accuracy %'] == ['67.00', '50.00']
  assert rows['recall fear %'] == ['40.00', '25.00']
  assert rows['parameters'] == ['58,423', '58,423']


def test_readme_is_rewritten_between_its_marks(tmp_path):
  _bundle(tmp_path / 'c')
  readme = tmp_path / 'README.md'
  readme.write_text(
    'a\n<!-- results: begin -->\nold\n<!-- results: end -->\nb\n'
  )
  code = reproduce.run(
    ['readme', f'--checkpoints={tmp_path / "c"}', f'--readme={readme}']
  )
  text = readme.read_text()
  assert code == 0
  assert text.startswith('a\n<!-- results: begin -->\n| bundle')
  assert text.endswith('<!-- results: end -->\nb\n')
  assert 'old' not in text


@pytest.mark.parametrize(
  ('arguments', 'code', 'text'),
  [
    (['kdef'], 2, 'fer2013 or readme'),
    ([], 2, 'fer2013 or readme'),
    (['fer2013', '--checkpoints=/nowhere'], 1, 'no bundle'),
  ],
)
def test_bad_calls(arguments, code, text, capsys):
  assert reproduce.run(arguments) == code
  assert text in capsys.readouterr().err


def test_the_readme_shows_what_is_recorded():
  table = reproduce.results_table(reproduce.released(_ROOT / 'checkpoints'))
  assert table in (_ROOT / 'README.md').read_text()
