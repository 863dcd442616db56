//! The portal, step by step.
