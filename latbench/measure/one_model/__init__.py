"""Measure one model: sessions in turns, in a process of their own, and a record of what they found."""
