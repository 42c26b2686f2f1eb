"""What makes regressors of scikit-learn predictors: labels without a unit, and files that hold nothing but numbers.

`standardised_labels` is what they learn from, `plain_state` writes and restores those that numpy can evaluate, and
`tree_ensemble` holds their trees as checked arrays.
"""
