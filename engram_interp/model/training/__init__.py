"""Recipes and the loop that trains the native model from them."""
