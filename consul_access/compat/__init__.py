"""Bridges to other libraries, for those who must keep them; nothing here is loaded unless it is asked for."""
