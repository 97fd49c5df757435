//! Floor 0: the words everybody uses; no input or output, except [`sys`] and `handles`.

#[forbid(unsafe_code)]
pub mod cancel;
#[forbid(unsafe_code)]
pub mod error;
#[forbid(unsafe_code)]
pub(crate) mod handles;
#[forbid(unsafe_code)]
pub mod hash;
#[forbid(unsafe_code)]
pub mod id;
#[forbid(unsafe_code)]
pub mod limits;
// The only one that may: the memory map.
pub mod mapped;
#[forbid(unsafe_code)]
pub mod metadata;
#[forbid(unsafe_code)]
pub mod panic;
#[forbid(unsafe_code)]
pub mod path;
#[forbid(unsafe_code)]
pub mod planted;
#[forbid(unsafe_code)]
pub mod progress;
#[forbid(unsafe_code)]
pub mod secret;
#[forbid(unsafe_code)]
pub mod size;
#[forbid(unsafe_code)]
pub mod sys;
#[forbid(unsafe_code)]
pub mod threads;
#[forbid(unsafe_code)]
pub mod time;
#[forbid(unsafe_code)]
pub mod words;
