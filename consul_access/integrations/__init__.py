"""One file a framework; none of them is loaded before it is used."""
