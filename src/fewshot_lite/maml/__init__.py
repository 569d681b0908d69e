"""Learners that adapt by gradient steps: MAML, iMAML, Lambda patterns, and refinement."""
