"""What every guard answers with, live or exported, and what is known of it. Free of Keras."""
