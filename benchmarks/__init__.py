"""What it costs, beside peers and beside the arithmetic alone; each script prints ratios of one run."""
