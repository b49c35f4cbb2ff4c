"""Pages over saved results. Nothing here computes: the numbers come from results, the figures from views."""
