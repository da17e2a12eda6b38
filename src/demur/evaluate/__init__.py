"""What a guard is worth: attacks and corruptions, one file a family."""
