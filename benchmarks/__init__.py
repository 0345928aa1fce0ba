"""Speed and memory side by side with what a competent user would write instead. Not part of the wheel."""
