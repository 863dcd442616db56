//! A Graph on loopback that says what a test tells it to.
