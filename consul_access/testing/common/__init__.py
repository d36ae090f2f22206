"""What the fakes have in common: the course of a request, faults on switches, a clock, and how they are reached."""
