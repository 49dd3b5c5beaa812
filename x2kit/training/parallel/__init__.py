"""DDP, FSDP2, activation checkpointing, compile."""
