"""Interpretability for language models with conditional memory (Engram, arXiv 2601.07372).

The modules are the interface: ``from engram_interp import depth, lens, gates``. Importing the
package itself loads neither torch nor streamlit, so saved results open in a fraction of a second.
"""

__version__ = "0.1.0"
