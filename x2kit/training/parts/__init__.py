"""The parts of a model that are trained, frozen or adapted."""
