"""What x2kit does otherwise than the official code, and the switch that gives the official behaviour."""

from __future__ import annotations

from .evidence import Deliberate

DELIBERATE: list[Deliberate] = [
    Deliberate(
        "Gradients of the contrastive loss over several processes are those of one process with all rows",
        '`gather_over_processes(..., gradient="official")`: a process gets back what its own loss says of its rows',
        "averaged over n processes, the official gradient of the encoders is an nth of that of the loss, while the "
        "temperature has all of it: the number of devices changes what is trained",
    ),
]
