"""A compiler that keeps what it compiled: the first process on a cache traces and compiles."""

import os
from pathlib import Path

from tests.toys import backend


class Program(backend.Program):
    def first_step(self, batch, watch):
        folder = Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
        keep = os.environ["JAX_ENABLE_COMPILATION_CACHE"] == "true"
        watch.note("trace", 0.25)
        with watch("compile"):
            if not (keep and (folder / "compiled").exists()):
                sum(range(3_000_000))
            if keep:
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "compiled").touch()
        return self.step(batch)


class Adapter(backend.Adapter):
    compile_cache = True

    def program(self, spec):
        return Program(spec)
