"""Eight fake devices train to what one device trains to."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from fer_jax.training import parallel

_CODE = """
import os, sys
import jax, numpy as np
from fer_jax.training import checkpoints, trainer
from tests.training import tiny_config
config = tiny_config.get_config()
config.epochs = 2.0
config.parallel = sys.argv[2]
trainer.train(config, sys.argv[1], show_progress=False)
variables, _ = checkpoints.load_variables(sys.argv[1], 'latest')
flat = {
  jax.tree_util.keystr(k): v
  for k, v in jax.tree_util.tree_leaves_with_path(variables)
}
np.savez(sys.argv[1] + '/flat.npz', **flat)
assert len(jax.devices()) == int(sys.argv[3])
"""


def _train(prepared, workdir, strategy, devices):
  env = {
    **os.environ,
    'FER_JAX_DATA': os.fspath(prepared),
    'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}',
    'PYTHONPATH': os.getcwd(),
  }
  subprocess.run(
    [sys.executable, '-c', _CODE, os.fspath(workdir), strategy, str(devices)],
    check=True,
    env=env,
    timeout=500,
  )
  return np.load(workdir / 'flat.npz')


@pytest.mark.slow
def test_jit_and_pmap_over_eight_devices_equal_one(prepared, tmp_path):
  runs = {}
  for strategy, devices in [('jit', 1), ('jit', 8), ('pmap', 8)]:
    workdir = tmp_path / f'{strategy}{devices}'
    workdir.mkdir()
    runs[strategy, devices] = _train(prepared, workdir, strategy, devices)
  one = runs.pop(('jit', 1))
  for name, other in runs.items():
    assert set(other.files) == set(one.files)
    for key in one.files:
      np.testing.assert_allclose(
        other[key], one[key], rtol=2e-3, atol=2e-4, err_msg=f'{name} {key}'
      )


def test_uneven_batches_are_refused():
  strategy = parallel.Strategy('jit', parallel.create().devices)
  strategy.devices = strategy.devices * 3
  with pytest.raises(ValueError, match='not divisible by the 3 devices'):
    strategy.check_batch(64)
