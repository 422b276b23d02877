"""Checkpoints that others published, as models of ours."""
