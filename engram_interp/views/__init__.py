"""Labelled arrays (`xarray.Dataset`) → plotly figures and escaped HTML.

A view returns what it made and does nothing else: it neither shows nor writes. Nothing here knows
a model, a Result, or torch.
"""
