"""What a registry must do, put to real ones and to fakes: where they differ, the fake is wrong."""
