//! TLS: the one home of the library that does it.

pub mod server;
