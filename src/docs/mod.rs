//! What is worth reading besides the code: the architecture, the stored format, the words, the
//! guarantees, the decisions with their reasons, and what was measured.

#[doc = include_str!("architecture.md")]
pub mod architecture {}

#[doc = include_str!("format.md")]
pub mod format {}

#[doc = include_str!("glossary.md")]
pub mod glossary {}

#[doc = include_str!("guarantees.md")]
pub mod guarantees {}

#[doc = include_str!("decisions.md")]
pub mod decisions {}

#[doc = include_str!("measurements.md")]
pub mod measurements {}
