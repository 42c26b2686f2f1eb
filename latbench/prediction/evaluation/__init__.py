"""How good a predictor is: metrics, splits that do not leak, the noise floor, and comparisons of all three."""
