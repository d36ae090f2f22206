"""The fault laboratory: every scenario by its name, met by this library and by other clients."""
