"""The toy backend that says it were PyTorch, run eagerly: it has none of torch's deviations."""

from tests.toys import backend


class Adapter(backend.Adapter):
    framework = "torch"
    execution = "eager"

    def versions(self):
        return {"torch": "2.13.0"}
