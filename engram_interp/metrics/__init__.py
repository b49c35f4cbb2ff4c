"""Plain mathematics on arrays: similarity of layers, alignment, divergences, gates, uncertainty.

Every function takes torch tensors (bfloat16 included) or numpy arrays and returns float64 numpy.
Nothing here knows a model, a labelled array or a figure.
"""
