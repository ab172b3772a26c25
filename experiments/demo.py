"""The whole path in a few minutes: draw, train, export, verify, recognise.

Example:
  python -m experiments.demo --out=out/demo

1. draws faces and prepares them as a data set (no download),
2. trains a small network on them for about a minute, with checkpoints,
3. exports it to float32, float16 and int8 TFLite and verifies each file,
4. finds the face in a real photo (scikit-image's astronaut, public domain) and
   tells its expression with the released network.

Each step is one of the project's own commands, printed as it is run.
"""

from __future__ import annotations

import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import time

import cv2
from absl import app
from absl import flags

_OUT = flags.DEFINE_string('out', 'out/demo', 'Folder for everything written.')
_MODEL = flags.DEFINE_string(
  'model', 'mini_xception_fer2013', 'Released network for the real photo.'
)
_IMAGES = flags.DEFINE_integer('images', 3000, 'Faces to draw for training.')
_EPOCHS = flags.DEFINE_float('epochs', 10.0, 'Epochs over the drawn faces.')


class StepFailed(Exception):
  """A command of the demo did not succeed."""


def _run(title: str, *command: str, capture: bool = False) -> str:
  """Runs one command, showing it; returns its output where captured."""
  shown = ' '.join(shlex.quote(c) for c in command)
  print(f'\n== {title}\n$ {shown}', flush=True)
  start = time.monotonic()
  executable = (
    [sys.executable, *command[1:]] if command[0] == 'python' else list(command)
  )
  env = {'TF_CPP_MIN_LOG_LEVEL': '2', **os.environ}
  done = subprocess.run(
    executable, env=env, stdout=subprocess.PIPE if capture else None, text=True
  )
  if done.returncode:
    raise StepFailed(f'{title}: exit code {done.returncode} from: {shown}')
  print(f'-- {time.monotonic() - start:.0f} s', flush=True)
  return done.stdout or ''


def _photo(out: pathlib.Path) -> pathlib.Path:
  """Writes the astronaut photo that comes with scikit-image."""
  from skimage import data

  path = out / 'astronaut.png'
  cv2.imwrite(os.fspath(path), data.astronaut()[..., ::-1])
  return path


def main(argv: list[str]) -> int:
  if len(argv) > 1:
    raise app.UsageError(f'unexpected argument {argv[1]!r}')
  out = pathlib.Path(_OUT.value)
  start = time.monotonic()
  # A demo starts over; a real training would go on where it stopped.
  for name in ('data', 'train', 'bundles', 'recognised'):
    shutil.rmtree(out / name, ignore_errors=True)
  out.mkdir(parents=True, exist_ok=True)
  data, work = f'{out}/data', f'{out}/train'
  try:
    _run(
      'Draw faces',
      'python', '-m', 'fer_jax.data.prepare', '--dataset=rendered_faces',
      f'--data_dir={data}', f'--train={_IMAGES.value}', '--val=500',
      '--test=300', '--size=48',
    )  # fmt: skip
    _run(
      'Train on them',
      'python', '-m', 'experiments.train',
      '--config=experiments/configs/rendered_faces_quick.py',
      f'--workdir={work}', f'--config.data.data_dir={data}',
      f'--config.epochs={_EPOCHS.value}', '--progress',
    )  # fmt: skip
    _run(
      'Export to TFLite and verify',
      'python', '-m', 'experiments.export', f'--workdir={work}',
      '--name=demo', f'--checkpoints={out}/bundles', f'--data_dir={data}',
    )  # fmt: skip
    photo = _photo(out)
    fer_jax = os.fspath(pathlib.Path(sys.executable).parent / 'fer-jax')
    text = _run(
      'Recognise faces in a real photo with the released network',
      fer_jax, 'image', os.fspath(photo), '--json',
      f'--model={_MODEL.value}', f'--output={out}/recognised',
      capture=True,
    )  # fmt: skip
  except StepFailed as error:
    print(f'demo: {error}', file=sys.stderr)
    return 1
  result = json.loads(text.splitlines()[0])
  (out / 'recognised.json').write_text(json.dumps(result, indent=2) + '\n')
  lines = [
    f'Demo finished in {time.monotonic() - start:.0f} s.',
    f'Photo: {photo}, {result["width"]}x{result["height"]} pixels, '
    f'{len(result["faces"])} face(s)',
  ]
  for face in result['faces']:
    box = ', '.join(f'{v:.0f}' for v in face['box'])
    best = sorted(face['probabilities'].items(), key=lambda kv: -kv[1])[:3]
    lines.append(
      f'  face at ({box}): {face["label"]}  ('
      + ', '.join(f'{k} {v:.2f}' for k, v in best)
      + ')'
    )
  pictures = sorted((out / 'recognised').glob('*'))
  lines += [
    'Annotated picture: ' + ', '.join(map(os.fspath, pictures)),
    f'JSON: {out / "recognised.json"}',
    f'Trained network: {work}',
    f'Exported bundle: {out / "bundles" / "demo"}',
  ]
  (out / 'summary.txt').write_text('\n'.join(lines) + '\n')
  print('\n' + '\n'.join(lines) + f'\nSummary: {out / "summary.txt"}')
  return 0 if result['faces'] else 1


if __name__ == '__main__':
  app.run(main)
