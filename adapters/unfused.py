"""Recurrent operations from dense layers, for engines that quantize layers but no recurrence."""

from __future__ import annotations

from adapters.ops import Array, Ops


class Unfused(Ops):
    """`lstm` and `gru` from the other operations of a vocabulary that inherits this as well. The
    products with the inputs are one layer, those with the states one at each position."""

    def lstm(
        self, x: Array, h: Array, c: Array, w: Array, u: Array, b: Array
    ) -> tuple[Array, Array, Array]:
        units = self.shape(h)[1]
        projected = self.dense(x, w, b)  # (N, S, 4H)
        states = []
        for t in range(self.shape(x)[1]):
            z = self.add(self._at(projected, t), self.dense(h, u))  # (N, 4H)
            i, f, g, o = (self._part(z, gate, units) for gate in range(4))
            kept = self.multiply(self.sigmoid(f), c)
            c = self.add(kept, self.multiply(self.sigmoid(i), self.tanh(g)))
            h = self.multiply(self.sigmoid(o), self.tanh(c))
            states.append(self._row(h))
        return self.concat(states, axis=1), h, c

    def gru(
        self, x: Array, h: Array, w: Array, u: Array, b: Array, b_recurrent: Array
    ) -> tuple[Array, Array]:
        units = self.shape(h)[1]
        projected = self.dense(x, w, b)  # (N, S, 3H)
        states = []
        for t in range(self.shape(x)[1]):
            a, s = self._at(projected, t), self.dense(h, u, b_recurrent)  # (N, 3H)
            reset, update = (
                self.sigmoid(self.add(self._part(a, gate, units), self._part(s, gate, units)))
                for gate in range(2)
            )
            inner = self.multiply(reset, self._part(s, 2, units))
            new = self.tanh(self.add(self._part(a, 2, units), inner))
            # (1 - z) n + z h
            h = self.add(new, self.multiply(update, self.subtract(h, new)))
            states.append(self._row(h))
        return self.concat(states, axis=1), h

    def _at(self, x: Array, t: int) -> Array:
        """(N, S, K) -> (N, K) at position t."""
        n, _, k = self.shape(x)
        return self.reshape(self.slice(x, axis=1, start=t, stop=t + 1), (n, k))

    def _row(self, h: Array) -> Array:
        """(N, H) -> (N, 1, H)."""
        n, units = self.shape(h)
        return self.reshape(h, (n, 1, units))

    def _part(self, z: Array, gate: int, units: int) -> Array:
        """The gate's units of (N, gates H)."""
        return self.slice(z, axis=1, start=gate * units, stop=(gate + 1) * units)
