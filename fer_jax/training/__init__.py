"""Training: schedules, optimizers, losses, the step, checkpoints, the trainer.

`trainer.train` composes the others; each of them is usable alone.
"""
