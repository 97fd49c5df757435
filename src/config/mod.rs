//! Floor 5: who is who. From words of a person to open repositories and sources.
//!
//! The one place, with the command line above it, that reads the environment: [`places`] knows
//! the folders, [`secret`] the passwords, and [`connect`] puts the parts together.

pub mod connect;
pub mod places;
pub mod secret;
