//! Tables of outcomes.
