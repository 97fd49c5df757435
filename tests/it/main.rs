//! Integration tests: one program, a module for each thing that is held to its contract.

mod backend;
mod engine_check;
