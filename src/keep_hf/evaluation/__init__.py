"""Measuring restored videos: metrics, pairing with references, reports and plots."""
