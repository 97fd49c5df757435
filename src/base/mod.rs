//! Floor 0: the words everybody uses; no input or output, except [`sys`].

pub mod cancel;
pub mod error;
pub mod hash;
pub mod id;
pub mod limits;
pub mod mapped;
pub mod metadata;
pub mod path;
pub mod planted;
pub mod progress;
pub mod secret;
pub mod size;
pub mod sys;
pub mod time;
