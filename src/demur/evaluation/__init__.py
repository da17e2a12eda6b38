"""What a guard is worth: attacks, corruptions, and the loop over them."""
