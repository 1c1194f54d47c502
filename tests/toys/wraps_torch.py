"""What somebody outside Assay makes of PyTorch: an adapter with a name of its own that runs torch
eagerly."""

from adapters import torch_eager


class Adapter(torch_eager.Adapter):
    """Declares torch's framework and execution by inheriting them."""
