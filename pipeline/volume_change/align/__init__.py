"""The parts of registration: samples and anchors, fine steps, coarse search, and what may be freed."""
