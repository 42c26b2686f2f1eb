"""Measure one model that a user has: sessions in turns, in a process of their own, and the record of it."""
