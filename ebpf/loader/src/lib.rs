//! Stub; replaced when the crate is written.
