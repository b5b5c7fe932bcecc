//! modelfs: one copy of every model file, mounted the way each application expects it.
//!
//! The layers and what may use what are held by `tests/tidy.rs`; ARCHITECTURE.md has the map.

pub mod base;
pub mod catalog;
pub mod classify;
pub mod cli;
pub mod config;
pub mod fetch;
pub mod formats;
pub mod fuse;
pub mod hub;
pub mod library;
pub mod plan;
pub mod query;
pub mod store;
pub mod tree;
