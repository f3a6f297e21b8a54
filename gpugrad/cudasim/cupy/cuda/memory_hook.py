"""cupy.cuda.memory_hook: functions that are told of each allocation of a thread."""
from __future__ import annotations

from typing import Any

from gpugrad.cudasim.state import switches, thread


class MemoryHook:
    """Subclass it; inside ``with hook:`` its methods are called. alloc_* are not simulated: pools
    take no memory from the device.
    """

    name = "MemoryHook"

    def __enter__(self) -> Any:
        if self.name in thread.hooks:
            raise KeyError(f"memory hook {self.name} already exists")
        thread.hooks[self.name] = self
        switches.hooks += 1
        switches.update()
        return self

    def __exit__(self, *exc: object) -> None:
        del thread.hooks[self.name]
        switches.hooks -= 1
        switches.update()

    def alloc_preprocess(self, **kwargs: Any) -> None: ...

    def alloc_postprocess(self, **kwargs: Any) -> None: ...

    def malloc_preprocess(self, **kwargs: Any) -> None: ...

    def malloc_postprocess(self, **kwargs: Any) -> None: ...

    def free_preprocess(self, **kwargs: Any) -> None: ...

    def free_postprocess(self, **kwargs: Any) -> None: ...
