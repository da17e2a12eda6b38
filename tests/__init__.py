"""The tests of demur: a package, so that what they share is imported by its full name."""
