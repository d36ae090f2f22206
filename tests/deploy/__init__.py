"""Kubernetes: what deploy/ and its pages say."""
