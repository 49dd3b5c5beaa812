"""Save, shard, verify, delete and resume checkpoints."""
