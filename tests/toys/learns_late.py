"""Moves by a third of what the recipe says: it reaches every goal, but later."""

from tests.toys import trains


class Program(trains.Program):
    share = 1 / 3

    def move(self, updates):
        super().move({name: self.share * update for name, update in updates.items()})


class Adapter(trains.Adapter):
    Program = Program
