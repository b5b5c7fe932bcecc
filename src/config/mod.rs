//! Settings: what the command line, the environment and the settings file say, as one checked struct.
//!
//! Owns: every environment variable's name, the settings file's keys, the places of the XDG standard, finding the hub
//! token. Precedence: flag, environment, file, default. Invariants: a `Settings` is complete and checked; every value
//! knows where it came from; a token is never shown. Not here: what settings do, and printing them (`cli`).

mod enrich;
mod environment;
mod error;
mod file;
mod limits;
mod places;
mod recognition;
mod settings;
mod token;

pub use environment::{Environment, VARIABLES, Variable, name};
pub use error::ConfigError;
pub use places::Places;
pub use settings::{Chosen, LogFormat, Origin, Overrides, Settings};
pub use token::TokenState;
