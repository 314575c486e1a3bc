"""The feedback loop: people upload photos and correct answers, a second person reviews, a nightly fine-tune learns."""
