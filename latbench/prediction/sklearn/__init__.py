"""What makes any regressor of scikit-learn a predictor: labels without a unit, and files that nobody can abuse.

`standardised_labels` is what they learn from, `skops_archive` writes and restores them, `tree_ensemble` keeps their
trees as checked arrays, and `native_state` rebuilds or refuses what runs unchecked native code.
"""
