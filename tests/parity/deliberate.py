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
    Deliberate(
        "Cross-attention that a cross encoder begins anew learns `training.lr_mult` times as fast, as everything new",
        "`training.fusion_lr`: one rate for the whole cross encoder (CCLM's official recipes give it one anyway)",
        "the official code counts it as new in the stack of X²-VLM, but forgets it beside a cross encoder",
    ),
]
