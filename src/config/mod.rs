//! Floor 5: who is who. From words of a person to open repositories and sources.
//!
//! The one place, with the command line above it, that reads the environment: [`places`] knows
//! the folders, [`secret`] the passwords, [`mod@file`] the config file; [`effective`] decides
//! which of them counts, [`connect`] and [`source_place`] put the parts together; [`other`] is for
//! commands that have two repositories. [`credentials`] finds who logs in on another machine
//! ([`netrc`] and [`aws`] read the files of other programs), and [`remote`] reaches it; `foreign`
//! refuses addresses as other programs write them, `sealed` knows which repositories were
//! encrypted, and `spared` what a restore leaves alone.

pub mod aws;
pub mod connect;
pub mod credentials;
pub mod effective;
pub mod file;
mod foreign;
pub mod netrc;
pub mod other;
pub mod places;
pub mod program;
pub mod remote;
mod sealed;
pub mod secret;
pub mod show;
pub mod source_place;
mod spared;
pub mod tables;
pub mod values;
