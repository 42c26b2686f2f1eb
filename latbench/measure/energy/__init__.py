"""The energy of an inference: windows between two moments at which a counter moves, and sessions of them."""
