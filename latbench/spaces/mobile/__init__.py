"""Spaces of mobile networks made of inverted residuals: FBNet and Once-for-All."""
