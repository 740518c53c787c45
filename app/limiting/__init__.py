"""Counting requests: in this process, or in a Redis that all gateways share."""
