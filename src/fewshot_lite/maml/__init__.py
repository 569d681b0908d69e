"""Adapting by gradient: the inner loop of MAML and its kin, and the linear algebra of iMAML."""
