//! Stub; replaced when the crate is written.
pub mod store;
pub mod tc;
pub mod nft;
