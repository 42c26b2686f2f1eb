"""How good a predictor is: metrics, and comparisons beside the noise floor."""
