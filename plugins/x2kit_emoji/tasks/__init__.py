"""Sources for tasks: relations, questions, pairs, captions, clips and entailment."""
