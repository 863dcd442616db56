//! Tests only: the real binary against the emulator and real servers, one file per story.
