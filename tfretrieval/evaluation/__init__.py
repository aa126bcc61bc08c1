"""Evaluation: relevance, metrics, result files, and the page that shows them."""
