"""What users hold in their hands: addresses, instances, checks. Frozen, and without I/O."""
