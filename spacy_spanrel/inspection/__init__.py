"""What is in training data, and what a component can make of it: numbers and advice."""
