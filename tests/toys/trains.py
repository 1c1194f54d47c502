"""A toy framework that trains: NumPy, with the gradient of the multilayer perceptron written out.
Every other model is pulled towards zero, which is enough to carry its state from step to step."""

from collections import defaultdict

import numpy as np

from adapters import trees
from adapters.base import Gradients, State
from adapters.numpy_optimizers import Optimizer
from adapters.numpy_reference import NumpyOps
from tests.toys import backend


class Program(backend.Program):
    def __init__(self, spec):
        super().__init__(spec)
        self.recipe = spec.training

    def load(self, params, buffers):
        super().load(params, buffers)
        self.params = {name: self.tensors[name] for name in params}
        self.buffers = {name: self.tensors[name] for name in buffers}
        trained = self.recipe.trained(self.params) if self.recipe.average else {}
        self.averages = dict(trained)
        self.optimizer, self.steps = Optimizer(self.recipe), 0

    def put(self, batch):
        x, y = (trees.part(batch, name) for name in "xy")
        return x.astype(self.spec.dtype), y

    def step(self, batch):
        if not self.spec.trains:
            return super().step(batch[0])
        found, self.buffers = self._computed(*batch)
        self.move(self.optimizer.update(self.recipe.trained(self.params), found.gradients))
        d = self.recipe.average
        for name, value in self.averages.items():
            self.averages[name] = d * value + (1 - d) * self.params[name]
        self.steps += 1
        return found.loss

    def move(self, updates):
        moved = {name: self.params[name] + update for name, update in updates.items()}
        self.params |= {name: value.astype(self.spec.dtype) for name, value in moved.items()}

    def gradients(self, batch):
        return self._computed(*batch)[0]

    def _computed(self, x, y):
        tensors = {**self.params, **self.buffers}
        loss, output, buffers = self.spec.network(NumpyOps()).loss(tensors, x, y)
        slopes = _perceptron(self.params, x, y) if self.spec.model == "mlp" else self.params
        return Gradients(np.array(loss), output, self.recipe.trained(slopes)), dict(buffers)

    def state(self):
        slots = defaultdict(dict)
        for name, kept in self.optimizer._slots.items():
            for letter, value in kept.items():
                slots[letter][name] = np.array(value)
        copies = [dict(each) for each in (self.params, self.buffers, self.averages)]
        return State(*copies, dict(slots), self.steps)

    def resume(self, state):
        self.load(state.params, state.buffers)
        self.averages = dict(state.averages)
        self.steps = self.optimizer._step = state.steps
        for letter, kept in state.slots.items():
            for name, value in kept.items():
                self.optimizer._slots[name][letter] = value

    def save(self, folder):
        np.savez(folder / "state.npz", **self.state().flat())

    def restore(self, folder):
        with np.load(folder / "state.npz") as kept:
            self.resume(State.of(dict(kept)))


def _perceptron(p, x, y):
    """Of the mean cross-entropy; x (N, side, side, 1), y (N,)."""
    n, x = len(y), x.reshape(len(y), -1)
    h = np.maximum(x @ p["fc1/w"] + p["fc1/b"], 0)  # (N, hidden)
    z = h @ p["fc2/w"] + p["fc2/b"]  # (N, 10)
    e = np.exp(z - z.max(axis=1, keepdims=True))
    dz = (e / e.sum(axis=1, keepdims=True) - np.eye(10, dtype=z.dtype)[y]) / n
    dh = (dz @ p["fc2/w"].T) * (h > 0)
    return {"fc1/w": x.T @ dh, "fc1/b": dh.sum(axis=0), "fc2/w": h.T @ dz, "fc2/b": dz.sum(axis=0)}


class Adapter(backend.Adapter):
    Program = Program

    def build(self, spec, params, buffers):
        program = self.Program(spec)
        program.load(params, buffers)
        return program
