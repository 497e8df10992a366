"""How good are models trained under a guarantee?"""
