"""Measures the rules of this product beside Sloth's on the same Prometheus: ``make bench``."""
