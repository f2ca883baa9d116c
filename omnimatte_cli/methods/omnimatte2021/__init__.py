"""Omnimatte (Lu et al., CVPR 2021): one network optimised on one video from random weights."""
