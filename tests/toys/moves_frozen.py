"""Trains what the recipe freezes, a little."""

from tests.toys import trains


class Program(trains.Program):
    def move(self, updates):
        super().move(updates)
        for name in self.params:
            if not self.recipe.trains(name):
                self.params[name] = self.params[name] * 1.001


class Adapter(trains.Adapter):
    Program = Program
