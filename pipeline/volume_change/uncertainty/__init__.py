"""How sure one may be: the error on stable ground, its covariance, and the intervals of volumes."""
